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
from qframe_litert.writer import Writer, Written

# The weight of a scale by channel. The larger it is, the finer are the steps of the shift.
_WEIGHT = 127


def affine(writer: Writer, fused: Fused, x: Written, value: Value) -> Written:
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


def on_grid(
    writer: Writer,
    x: Written,
    grid: Grid | None,
    activation: Any = None,
    quantize: Any = None,
) -> Written:
    """A tensor on a grid: itself, or the same numbers rounded to that one.

    Args:
        writer: writes what changes the grid.
        x: the tensor.
        grid: the other grid.
        activation: what comes before it is rounded. Default None.
        quantize: the quantizer to that grid, which activations other than a ReLU need.
            Default None.
    """
    same = writer.stored(x.grid) == writer.stored(grid)
    if same and activation is None:
        return x
    scales = (x.grid.scale,)
    fused = Fused(Affine(), scales, activation=activation, quantize=quantize)
    return affine(writer, fused, x, Value(x.shape, grid))


def _line_of(fused: Fused, x: Written) -> Fused:
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


def _threshold_of(fused: Fused, x: Written) -> Fused:
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


# The functions that return a grid of the runtime: code, the scale in 8 bits, zero point.
_FIXED = {
    "sigmoid": ("LOGISTIC", 2.0**-8, -128, None),
    "tanh": ("TANH", 2.0**-7, 0, None),
    "softmax": ("SOFTMAX", 2.0**-8, -128, Options("SoftmaxOptions", {"Beta": 1.0})),
}


def activation(writer: Writer, fused: Fused, x: Written, value: Value) -> Written:
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
            y = writer.emit(code, (x.index,), fixed, options)
            return on_grid(writer, y, value.grid)
        if function == "softmax":
            return _softmax(writer, x, value)
    if epilogues.is_relu(operation) and writer.stored(value.grid).factor == 1:
        return on_grid(writer, x, value.grid, operation)
    return lookup(writer, fused, x, value)


def _softmax(writer: Writer, x: Written, value: Value) -> Written:
    """Write a softmax on another grid than its own: in 16 bits, and then rounded."""
    shape, name = (writer.settings.batch, *value.shape), f"{writer.name}/softmax"
    quantization = Quantization(np.float32(2.0**-16), -(2**15))
    wide = writer.model.add_tensor(Tensor(name, shape, "int16", quantization))
    options = Options("SoftmaxOptions", {"Beta": 1.0})
    writer.operator("SOFTMAX", (x.index,), wide, options, version=3)
    epilogue = Epilogue.of(writer, None, value, fuses=False)
    out = writer.activation("quantize", value)
    writer.operator("QUANTIZE", (wide,), out.index, Options("QuantizeOptions"), version=2)
    return epilogue.finish(writer, out)


def lookup(writer: Writer, fused: Fused, x: Written, value: Value) -> Written:
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
            f"{fused.operation.name} of 16 bits is not in the runtime, which has tables "
            "for 8 bits only. Quantize the model to 8, for example with the recipe 'int8'"
        )
    stored, (low, high) = writer.stored(x.grid), ENDS["int8"]
    integers = np.arange(low, high + 1) - stored.zero_point
    # Between two levels there is nothing.
    steps = np.rint(integers / stored.factor).astype(np.int32)
    results = run(attrs.evolve(fused, scales=(x.grid.scale,)), steps)
    if results.dtype.kind == "f":
        raise QFrameError("no quantizer follows it. Give it an output_quantizer")
    table = writer.integers("table", writer.stored(value.grid).store(results), value.grid)
    return looked_up(writer, x, table, value, "")


def looked_up(writer: Writer, x: Written, table: int, value: Value, name: str) -> Written:
    """Write the number of a table for each integer of 8 bits, from -128 on.

    Args:
        writer: has the table.
        x: the integers.
        table: the index of the table of 256 numbers; of int32 where `value` has no grid.
        value: the result.
        name: what distinguishes it from others of the same layer; empty for nothing.
    """
    prefix = name and f"{name}/"
    indices = Value(x.shape)
    wide = writer.cast(f"{prefix}wide", x, indices).index
    index = writer.activation(f"{prefix}index", indices, "int32").index
    dtype = "" if value.grid is not None else "int32"
    out = writer.activation(f"{prefix}gather", value, dtype).index
    inputs = wide, writer.constant("first", -ENDS["int8"][0])
    writer.operator("ADD", inputs, index, Options("AddOptions"), version=1)
    writer.operator("GATHER", (table, index), out, Options("GatherOptions"))
    return Written(out, value)
