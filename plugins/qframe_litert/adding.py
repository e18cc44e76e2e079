"""Sums and means of any number of tensors, which the runtime adds two at a time."""

from __future__ import annotations

import math
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from qframe.deployment.graph.fused import Fused
from qframe.deployment.graph.operations import Affine, Concatenate, Reshape
from qframe.deployment.graph.values import Grid, Value
from qframe.errors import QFrameError
from qframe_litert import elementwise, moving
from qframe_litert.epilogues import Epilogue
from qframe_litert.grids import ENDS
from qframe_litert.model import Options
from qframe_litert.products import channelwise, convolution
from qframe_litert.writer import Writer, Written

Array = NDArray[Any]
# The bits of a sum, and the most of them behind the point: a step is one in 2^20.
_BITS, _FRACTION = 30, 20


def total(writer: Writer, fused: Fused, inputs: list[Written], value: Value) -> Written:
    """Write a sum or a mean of tensors."""
    operation: Any = fused.operation
    factor = 1 / len(inputs) if operation.function == "average" else 1.0
    grids = {writer.stored(x.grid) for x in inputs}
    if len(grids) == 1 and all(x.shape == value.shape for x in inputs):
        channels = value.shape[-1]
        kernel = np.ones((channels, len(inputs), 1), np.int64)
        return stacked(writer, fused, inputs, value, kernel, np.full(channels, factor))
    if writer.settings.activations == "int16":
        return _in_pairs(writer, fused, inputs, value, factor)
    return _by_tables(writer, fused, inputs, value, factor)


def stacked(
    writer: Writer,
    after: Fused,
    inputs: list[Written],
    value: Value,
    kernel: Array,
    scale: Array,
) -> Written:
    """Write tensors of one grid times a weight for each of them and each channel, added.

    They are the rows of an image, over which a depthwise convolution adds, which rounds
    once.
    """
    pixels = math.prod(value.shape[:-1])
    row, grid = (1, pixels, value.shape[-1]), inputs[0].grid
    rows = [moving.reshape(writer, Reshape(row), x, Value(row, grid)) for x in inputs]
    stack = Value((len(rows), *row[1:]), grid)
    image = moving.concatenate(writer, Concatenate(1), *rows, stack)
    fused = channelwise(image, kernel, scale, np.zeros(row[-1]), after)
    out = convolution(writer, fused, image, attrs.evolve(value, shape=row))
    return moving.reshape(writer, Reshape(value.shape), out, value)


def _by_tables(
    writer: Writer, fused: Fused, inputs: list[Written], value: Value, factor: float
) -> Written:
    """Write a sum of tensors on any grids: of int32, which tables return, rounded once."""
    stored, (least, most) = writer.stored(value.grid), ENDS["int8"]
    step = stored.scale / factor
    largest = sum(map(_reach, inputs)) / step + most - least
    fraction = min(_FRACTION, int(_BITS - np.ceil(np.log2(largest))))
    if fraction < 0:
        raise QFrameError(
            f"its inputs reach {largest:.3g} steps of its result, and the runtime adds 32 "
            "bits. Quantize its result with a larger range"
        )
    unit = 2**fraction
    # Half a step is added since a quotient is cut downwards.
    start = unit * stored.zero_point + unit // 2
    parts = []
    for number, x in enumerate(inputs):
        own = writer.stored(x.grid)
        integers = np.arange(least, most + 1) - own.zero_point
        reals = np.rint(integers * (own.scale / step * unit)) + (0 if number else start)
        shape = Value(x.shape)
        name = f"part_{number}"
        table = writer.constant(f"{name}/table", reals)
        parts.append(elementwise.looked_up(writer, x, table, shape, name))
    sums, *others = parts
    for number, part in enumerate(others, 1):
        both = Value(np.broadcast_shapes(sums.shape, part.shape))
        index = writer.activation(f"sum_{number}", both, "int32")
        inputs_of_sum = sums.index, part.index
        writer.operator("ADD", inputs_of_sum, index.index, Options("AddOptions"), version=1)
        sums = index
    if unit > 1:
        sums = _with_constant(writer, "FLOOR_DIV", sums, unit, "FloorDivOptions")
    epilogue = Epilogue.of(writer, fused.activation, value, fuses=False)
    low = least if epilogue.low is None else epilogue.low
    high = most if epilogue.high is None else epilogue.high
    for code, end in (("MAXIMUM", low), ("MINIMUM", high)):
        sums = _with_constant(writer, code, sums, end, "MaximumMinimumOptions")
    return writer.cast("cast", sums, value)


def _reach(x: Written) -> Any:
    """The largest magnitude on the grid of a tensor."""
    return max(abs(x.grid.span.low), abs(x.grid.span.high)) * x.grid.scale


def _with_constant(
    writer: Writer, code: str, x: Written, number: int, options: str
) -> Written:
    """Write an operator of integers of 32 bits and a number."""
    name = code.lower()
    out = writer.activation(name, x.value, "int32")
    inputs = x.index, writer.constant(f"{name}/number", number)
    writer.operator(code, inputs, out.index, Options(options), version=1)
    return out


def _in_pairs(
    writer: Writer, fused: Fused, inputs: list[Written], value: Value, factor: float
) -> Written:
    """Write a sum of 16-bit tensors, two at a time; each partial sum has its own grid."""
    low, high = -(2**15) + 1, 2**15 - 1
    sums, *others = inputs
    for x in others:
        shape = np.broadcast_shapes(sums.shape, x.shape)
        grid = Grid(low, high, scale=float(np.float32((_reach(sums) + _reach(x)) / high)))
        sums = writer.emit(
            "ADD", (sums.index, x.index), Value(shape, grid), Options("AddOptions")
        )
    scaled = Fused(
        Affine(np.full(1, factor, np.float32)),
        (sums.grid.scale,),
        activation=fused.activation,
    )
    return elementwise.affine(writer, scaled, sums, attrs.evolve(value, shape=sums.shape))
