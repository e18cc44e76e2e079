"""Functions of several tensors that are one operator of a stack of them."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from qframe.deployment.graph.fused import Fused
from qframe.deployment.graph.operations import Activation, Reshape
from qframe.deployment.graph.values import Value
from qframe.errors import QFrameError
from qframe_litert import elementwise, moving
from qframe_litert.model import Options
from qframe_litert.products import channelwise, convolution
from qframe_litert.writer import Edge, Writer

Array = NDArray[Any]
_LARGEST = 2**7 - 1


def merge(writer: Writer, fused: Fused, *inputs_and_value: Any) -> Edge:
    """Write a function of two tensors or more."""
    *inputs, value = inputs_and_value
    operation: Any = fused.operation
    function = operation.function
    if function in ("maximum", "minimum"):
        x = elementwise.on_grid(writer, inputs[0], value.grid)
        for y in inputs[1:-1]:
            y = elementwise.on_grid(writer, y, value.grid)
            both = Value(np.broadcast_shapes(x.shape, y.shape), value.grid)
            options = Options("MaximumMinimumOptions")
            x = writer.emit(function.upper(), (x.index, y.index), both, options, "part")
        return elementwise.merge(writer, fused, x, inputs[-1], value)
    if function == "average" or (function == "add" and len(inputs) > 2):
        return _sum_of(writer, fused, inputs, value)
    return elementwise.merge(writer, fused, *inputs, value)


def _sum_of(writer: Writer, fused: Fused, inputs: list[Edge], value: Value) -> Edge:
    """Write a sum or a mean, which is rounded once."""
    operation: Any = fused.operation
    name = "a mean" if operation.function == "average" else "a sum of more than two tensors"
    if len({writer.stored(x.grid) for x in inputs}) > 1:
        raise QFrameError(
            f"it is {name} on different grids, and the runtime rounds each step. Let one "
            "quantizer layer quantize all of them, or write keras.layers.Add of two, each "
            "behind a quantizer"
        )
    if any(x.shape != value.shape for x in inputs):
        raise QFrameError(f"it is {name} of different shapes. Repeat the smaller ones")
    channels, count = value.shape[-1], len(inputs)
    kernel = np.ones((channels, count, 1), np.int64)
    scale = np.full(channels, 1 / count if operation.function == "average" else 1.0)
    return _stacked(writer, fused, inputs, value, kernel, scale)


def _stacked(
    writer: Writer,
    after: Fused,
    inputs: list[Edge],
    value: Value,
    kernel: Array,
    scale: Array,
) -> Edge:
    """Write tensors of one grid times a weight for each of them and each channel, added.

    They are the rows of an image, over which a depthwise convolution adds.
    """
    pixels = math.prod(value.shape[:-1])
    row, grid = (1, pixels, value.shape[-1]), inputs[0].grid
    rows = [moving.reshape(writer, Reshape(row), x, Value(row, grid)) for x in inputs]
    stack = Value((len(rows), *row[1:]), grid)
    options = Options("ConcatenationOptions", {"Axis": 1})
    indices = tuple(x.index for x in rows)
    image = writer.emit("CONCATENATION", indices, stack, options, "stack")
    fused = channelwise(image, kernel, scale, np.zeros(row[-1]), after)
    out = convolution(writer, fused, image, attrs.evolve(value, shape=row))
    return moving.reshape(writer, Reshape(value.shape), out, value)


def prelu(writer: Writer, fused: Fused, x: Edge, value: Value) -> Edge:
    """Write a ReLU with a slope for each channel: what is above 0 and what is below.

    A slope is the quotient of two weights of 8 bits that is nearest to it.
    """
    operation: Any = fused.operation
    slopes = np.broadcast_to(operation.alpha, x.shape).reshape(-1, x.shape[-1])
    if (slopes == slopes[0, 0]).all():
        one = attrs.evolve(fused, operation=Activation("relu", float(slopes[0, 0])))
        return elementwise.lookup(writer, one, x, value)
    if (slopes != slopes[0]).any():
        axes = list(range(1, len(x.shape)))
        raise QFrameError(
            "it has a slope for each number of a sample, and the runtime one for each "
            f"channel. Build it with shared_axes={axes}"
        )
    zero = writer.integers("zero", [writer.stored(x.grid).zero_point], x.grid)
    halves = [
        writer.emit(code, (x.index, zero), x.value, Options("MaximumMinimumOptions"), part)
        for code, part in (("MAXIMUM", "above"), ("MINIMUM", "below"))
    ]
    above, below = np.transpose([_quotient(float(slope)) for slope in slopes[0]])
    kernel = np.stack([above, below], 1)[..., None]
    return _stacked(writer, fused, halves, value, kernel, 1 / above)


def _quotient(slope: float) -> tuple[int, int]:
    """Weights whose quotient is a slope: of numbers above 0, and of those below."""
    if abs(slope) <= 1:
        nearest = Fraction(slope).limit_denominator(_LARGEST)
        return nearest.denominator, nearest.numerator
    inverse = Fraction(1 / slope).limit_denominator(_LARGEST)
    if not inverse:
        raise QFrameError(f"its slope {slope:g} is beyond 254. Train it with a limit")
    sign = 1 if inverse > 0 else -1
    return abs(inverse.numerator), sign * inverse.denominator
