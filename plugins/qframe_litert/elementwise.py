"""Operators on each number: of several tensors, activations, and changes of the grid."""

from __future__ import annotations

import math
from typing import Any

import attrs
import numpy as np

from qframe.deployment.graph.fused import Fused
from qframe.deployment.graph.operations import Affine, Dequantize, Reshape
from qframe.deployment.graph.reference import run
from qframe.deployment.graph.values import Grid, Value
from qframe.errors import QFrameError
from qframe_litert import epilogues
from qframe_litert.epilogues import Epilogue
from qframe_litert.grids import ENDS, StoredGrid
from qframe_litert.model import Options, Quantization, Tensor
from qframe_litert.moving import reshape
from qframe_litert.products import channelwise, convolution
from qframe_litert.writer import Edge, Writer

# The weight of a scale by channel. The larger it is, the finer are the steps of the shift.
_WEIGHT = 127


def affine(writer: Writer, fused: Fused, x: Edge, value: Value) -> Edge:
    """Write ``x * scale + shift``, as a depthwise convolution of single pixels.

    Without a scale it changes the grid only. XNNPACK's own operator for that multiplies by
    numbers of 8 bits. A single scale or shift, as of pictures, often leads to numbers that
    are exactly halfway between two integers; only a table rounds them as Keras does.
    """
    operation: Any = fused.operation
    parts = [part for part in (operation.scale, operation.shift) if part is not None]
    single = parts and all(part.size == 1 for part in parts)
    eight = writer.settings.activations == "int8"
    if not epilogues.is_relu(fused.activation) or (single and eight):
        return lookup(writer, fused, x, value)
    pixels = 1, math.prod(x.shape[:-1]), x.shape[-1]
    image = reshape(writer, Reshape(pixels), x, attrs.evolve(x.value, shape=pixels))
    two_levels = writer.stored(value.grid).factor > 1
    product = _threshold_of(fused, image) if two_levels else _line_of(fused, image)
    out = convolution(writer, product, image, attrs.evolve(value, shape=pixels))
    return reshape(writer, Reshape(value.shape), out, value)


def on_grid(writer: Writer, x: Edge, grid: Grid | None, activation: Any = None) -> Edge:
    """A tensor on a grid: itself, or the same numbers rounded to that one."""
    same = writer.stored(x.grid) == writer.stored(grid)
    if same and activation is None:
        return x
    fused = Fused(Affine(), (x.grid.scale,), activation=activation)
    return affine(writer, fused, x, Value(x.shape, grid))


def _line_of(fused: Fused, x: Edge) -> Fused:
    """A scale and a shift by channel as a product of single pixels."""
    operation: Any = fused.operation
    shape = x.shape[-1:]
    scale = 1.0 if operation.scale is None else operation.scale.astype(float)
    shift = 0.0 if operation.shift is None else operation.shift
    scale, shift = np.broadcast_to(scale, shape), np.broadcast_to(shift, shape)
    if not scale.all():
        raise QFrameError("it multiplies a channel by 0, which leaves nothing of it")
    kernel = np.where(scale < 0, -_WEIGHT, _WEIGHT)
    return channelwise(x, kernel, np.abs(scale) / _WEIGHT, shift, fused)


def _threshold_of(fused: Fused, x: Edge) -> Fused:
    """A threshold by channel as a product of single pixels, whose sign is the result."""
    quantize: Any = fused.quantize
    span, channels = x.grid.span, x.shape[-1]
    steps = np.arange(span.low, span.high + 1, span.step)[:, None].repeat(channels, 1)
    y = run(fused.operation, run(Dequantize(scale=x.grid.scale), steps))
    y = y if fused.activation is None else run(fused.activation, y)
    upper = run(quantize, y) > quantize.low
    falls = upper[0] & ~upper[-1]
    # The integers that reach the upper level are the last ones, or the first ones.
    count = upper.sum(axis=0)
    first = span.low + span.step * (len(steps) - count)
    last = span.low + span.step * (count - 1)
    kernel, bias = np.where(falls, -1, 1), np.where(falls, last, -first)
    sign = attrs.evolve(quantize, thresholds=np.zeros(1, np.float32))
    product = channelwise(x, kernel, np.ones(channels), bias * float(x.grid.scale), fused)
    return attrs.evolve(product, activation=None, quantize=sign)


_MERGES = {"add": ("ADD", "Add"), "subtract": ("SUB", "Sub"), "multiply": ("MUL", "Mul")}


def merge(writer: Writer, fused: Fused, *inputs_and_value: Any) -> Edge:
    """Write a function of two tensors."""
    *inputs, value = inputs_and_value
    function = fused.operation.function  # type: ignore[attr-defined]
    if len(inputs) != 2:
        raise QFrameError(
            f"it takes {len(inputs)} tensors, and the runtime two. Write several layers"
        )
    if function in ("maximum", "minimum"):
        # Rounding is monotone: the larger of two rounded numbers is the rounded larger one.
        x, y = (on_grid(writer, edge, value.grid) for edge in inputs)
        epilogue = Epilogue.of(writer, fused.activation, value, fuses=False)
        code, options = function.upper(), Options("MaximumMinimumOptions")
    elif function in _MERGES:
        x, y = inputs
        if function == "multiply":
            _check_products(writer, x, y, value)
        epilogue = Epilogue.of(writer, fused.activation, value)
        code, name = _MERGES[function]
        settings = {"FusedActivationFunction": epilogue.function}
        options = Options(f"{name}Options", settings)
    else:
        raise QFrameError(f"the runtime cannot {function} integers")
    out = writer.emit(code, (x.index, y.index), value, options, epilogue.name)
    return epilogue.finish(writer, out)


def _check_products(writer: Writer, x: Edge, y: Edge, value: Value) -> None:
    """Raise `QFrameError` for products that overflow in the built-in kernels.

    These compute in 16 bits, and return the other end of the range beyond them.
    """
    grids = [writer.stored(edge.grid) for edge in (x, y)]
    out = writer.stored(value.grid)
    ends = [
        [grid.factor * end for end in (edge.grid.span.low, edge.grid.span.high)]
        for grid, edge in zip(grids, (x, y), strict=True)
    ]
    most = max(abs(a * b) for a in ends[0] for b in ends[1])
    steps = most * grids[0].scale * grids[1].scale / out.scale
    if writer.settings.activations == "int8" and steps + 2**7 >= 2**15:
        raise QFrameError(
            f"its products reach {steps:.0f} steps of its result, and the runtime "
            "computes them in 16 bits. Quantize its result with a larger range"
        )


# The functions that return a grid of the runtime: code, the scale in 8 bits, zero point.
_FIXED = {
    "sigmoid": ("LOGISTIC", 2.0**-8, -128, None),
    "tanh": ("TANH", 2.0**-7, 0, None),
    "softmax": ("SOFTMAX", 2.0**-8, -128, Options("SoftmaxOptions", {"Beta": 1.0})),
}


def activation(writer: Writer, fused: Fused, x: Edge, value: Value) -> Edge:
    """Write an activation that is not fused, of integers."""
    operation: Any = fused.operation
    function = operation.function
    if function in _FIXED and fused.activation is None:
        code, scale, zero_point, options = _FIXED[function]
        if writer.settings.activations == "int16":
            scale, zero_point = 2.0**-15, 0
        if writer.stored(value.grid) == StoredGrid(scale, zero_point):
            return writer.emit(code, (x.index,), value, options)
        if writer.settings.activations == "int16":
            low, high = -(2**15) + 1, 2**15 - 1
            fixed = Value(value.shape, Grid(low, high, 1, scale))
            y = writer.emit(code, (x.index,), fixed, options, function)
            return on_grid(writer, y, value.grid)
        if function == "softmax":
            return _softmax(writer, x, value)
    if epilogues.is_relu(operation):
        return on_grid(writer, x, value.grid, operation)
    return lookup(writer, fused, x, value)


def _softmax(writer: Writer, x: Edge, value: Value) -> Edge:
    """Write a softmax on another grid than its own: in 16 bits, and then rounded."""
    shape, name = (writer.settings.batch, *value.shape), f"{writer.name}/softmax"
    quantization = Quantization(np.float32(2.0**-16), -(2**15))
    wide = writer.model.add_tensor(Tensor(name, shape, "int16", quantization))
    options = Options("SoftmaxOptions", {"Beta": 1.0})
    writer.operator("SOFTMAX", (x.index,), wide, options, version=3)
    epilogue = Epilogue.of(writer, None, value, fuses=False)
    out = writer.activation(value, epilogue.name)
    writer.operator("QUANTIZE", (wide,), out.index, Options("QuantizeOptions"), version=2)
    return epilogue.finish(writer, out)


def lookup(writer: Writer, fused: Fused, x: Edge, value: Value) -> Edge:
    """Write a function of each number as a table of all results, which is exact."""
    operation: Any = fused.operation
    arrays = getattr(operation, "scale", None), getattr(operation, "shift", None)
    if any(array is not None and array.size > 1 for array in arrays):
        raise QFrameError(
            "its channels have different scales, and its activation is not a plain ReLU. "
            "Put a quantizer between the two"
        )
    if writer.settings.activations != "int8":
        raise QFrameError(
            f"{fused.operation.name} of 16 bits is not in the runtime. Write activations=8"
        )
    stored, (low, high) = writer.stored(x.grid), ENDS["int8"]
    steps = np.arange(low, high + 1, dtype=np.int32) - np.int32(stored.zero_point)
    results = run(attrs.evolve(fused, scales=(x.grid.scale,)), steps)
    table = writer.integers("table", writer.stored(value.grid).store(results), value.grid)
    # Integers of 8 bits from -128 on, as indices from 0 on.
    wide = writer.model.add_tensor(_indices(writer, x, "wide"))
    cast = Options("CastOptions", {"InDataType": _INT8, "OutDataType": _INT32})
    writer.operator("CAST", (x.index,), wide, cast)
    index = writer.model.add_tensor(_indices(writer, x, "index"))
    inputs = wide, writer.constant("first", -low)
    writer.operator("ADD", inputs, index, Options("AddOptions"), version=1)
    return writer.emit("GATHER", (table, index), value, Options("GatherOptions"))


_INT8, _INT32 = 9, 2


def _indices(writer: Writer, x: Edge, part: str) -> Tensor:
    shape = writer.settings.batch, *x.shape
    return Tensor(f"{writer.name}/{part}", shape, "int32")
