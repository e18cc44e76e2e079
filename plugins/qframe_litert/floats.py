"""Operations of float32 between those of integers, for what has no grid."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import attrs
import numpy as np

from qframe.deployment.graph import biases
from qframe.deployment.graph import operations as op
from qframe.deployment.graph.fused import Fused
from qframe.deployment.graph.fusing import FLOAT_BIAS_RULES
from qframe.deployment.graph.graph import Node
from qframe.deployment.graph.kernels import is_integer
from qframe.deployment.graph.reference import run
from qframe.deployment.graph.rewriting import Draft, Rule
from qframe.deployment.graph.values import Value
from qframe.errors import QFrameError
from qframe_litert import moving, products, transposed
from qframe_litert.float_functions import activation, choose, of_one, of_two
from qframe_litert.model import Options
from qframe_litert.recurring import recurrence
from qframe_litert.windows import pool
from qframe_litert.writer import Writer, Written


def _place_bias(draft: Draft, key: int, node: Node) -> bool:
    """Round the bias of a product of integers, unless its result is float."""
    fused = node.operation
    quantized = isinstance(fused, Fused) and fused.quantize is not None
    return quantized and biases.place_bias(draft, key, node)


RULES: tuple[Rule, ...] = (*FLOAT_BIAS_RULES, _place_bias)


def write(
    writer: Writer, operation: op.Operation, inputs: list[Written], value: Value
) -> Written:
    """Write an operation of floats with its epilogue.

    Args:
        writer: writes it.
        operation: any of the graph.
        inputs: what it reads; integers are dequantized.
        value: its result, which has a grid only behind a quantizer.

    Raises:
        QFrameError: the runtime has no operators for it.
    """
    if not isinstance(operation, Fused):
        scales = tuple(None if x.grid is None else x.grid.scale for x in inputs)
        operation = Fused(operation, scales)
    convert = _OPERATORS.get(type(operation.operation))
    if convert is None:
        raise QFrameError("the runtime has no operator for it")
    result = Value(value.shape)
    out = convert(writer, operation, *(writer.real(x) for x in inputs), result)
    if operation.activation is not None:
        out = activation(writer, operation.activation, out)
    if operation.quantize is None:
        return out
    return quantize(writer, operation.quantize, out, value)


def quantize(writer: Writer, operation: op.Quantize, x: Written, value: Value) -> Written:
    """Write the integers of floats.

    Those of one threshold are chosen by it: the file has them further apart than a step.
    """
    grid: Any = value.grid
    ends = grid.span.low, grid.span.high
    if len(operation.thresholds) > 1:
        # The built-in kernel converts to int32 first, where large numbers overflow.
        for code, end in zip(("MAXIMUM", "MINIMUM"), ends, strict=True):
            x = of_two(writer, code, x, end * float(grid.scale))
        return writer.emit("QUANTIZE", (x.index,), value, Options("QuantizeOptions"))
    if operation.direction is not None:
        raise QFrameError("an activation before a quantizer of two levels is not supported")
    low, high = (
        writer.integers(name, writer.stored(grid).store([end]), grid)
        for name, end in zip(("low", "high"), ends, strict=True)
    )
    (threshold,) = operation.thresholds
    return choose(writer, "GREATER_EQUAL", x, threshold, (high, low), value)


def _convolution(writer: Writer, fused: Fused, x: Written, value: Value) -> Written:
    conv: Any = fused.operation
    if conv.pad and fused.scales[0] is not None and is_integer(conv.kernel):
        # It is in steps of the integers.
        conv = attrs.evolve(conv, pad=conv.pad * float(fused.scales[0]))
        fused = attrs.evolve(fused, operation=conv)
    return products.convolution(writer, fused, x, value)


def _matmul(writer: Writer, fused: Fused, x: Written, y: Written, value: Value) -> Written:
    operation: Any = fused.operation
    options, inputs = Options("BatchMatMulOptions"), (x.index, y.index)
    out = writer.emit("BATCH_MATMUL", inputs, value, options)
    return out if operation.scale == 1 else of_two(writer, "MUL", out, operation.scale)


def _affine(writer: Writer, fused: Fused, x: Written, value: Value) -> Written:
    operation: Any = fused.operation
    for code, array in (("MUL", operation.scale), ("ADD", operation.shift)):
        x = x if array is None else of_two(writer, code, x, array)
    return x


def _activation(writer: Writer, fused: Fused, x: Written, value: Value) -> Written:
    operation: Any = fused.operation
    return activation(writer, operation, x)


_MERGES = {
    "add": "ADD",
    "average": "ADD",
    "divide": "DIV",
    "maximum": "MAXIMUM",
    "minimum": "MINIMUM",
    "multiply": "MUL",
    "subtract": "SUB",
}


def _merge(writer: Writer, fused: Fused, *inputs_and_value: Any) -> Written:
    out, *others, _ = inputs_and_value
    operation: Any = fused.operation
    for x in others:
        out = of_two(writer, _MERGES[operation.function], out, x)
    if operation.function == "average":
        out = of_two(writer, "MUL", out, 1 / (len(others) + 1))
    return out


def _prelu(writer: Writer, fused: Fused, x: Written, value: Value) -> Written:
    operation: Any = fused.operation
    slopes = writer.constant("slopes", operation.alpha, "float32")
    return writer.emit("PRELU", (x.index, slopes), value)


def _average_pool(writer: Writer, fused: Fused, x: Written, value: Value) -> Written:
    return pool(writer, "AVERAGE_POOL_2D", fused.operation, x, value)


def _global_pool(writer: Writer, fused: Fused, x: Written, value: Value) -> Written:
    operation: Any = fused.operation
    if operation.function == "max":
        return moving.global_max(writer, operation, x, value)
    return _mean(writer, x, range(1, len(x.shape)), value)


def _mean(
    writer: Writer, x: Written, axes: Any, value: Value, *, keeps: bool = False
) -> Written:
    inputs = x.index, writer.constant("axes", axes)
    return writer.emit(
        "MEAN", inputs, value, Options("ReducerOptions", {"KeepDims": keeps})
    )


def _normalize(writer: Writer, fused: Fused, x: Written, value: Value) -> Written:
    operation: Any = fused.operation
    ones = tuple(
        1 if axis in operation.axes else size for axis, size in enumerate(x.shape, 1)
    )

    def mean(numbers: Written) -> Written:
        return _mean(writer, numbers, operation.axes, Value(ones), keeps=True)

    if operation.function == "standard":
        x = of_two(writer, "SUB", x, mean(x))
    variance = of_two(writer, "ADD", mean(of_one(writer, "SQUARE", x)), operation.epsilon)
    return of_two(writer, "MUL", x, of_one(writer, "RSQRT", variance))


def _resize(writer: Writer, fused: Fused, x: Written, value: Value) -> Written:
    operation: Any = fused.operation
    inputs = x.index, writer.constant("size", operation.size)
    options = Options("ResizeBilinearOptions", {"HalfPixelCenters": True})
    return writer.emit("RESIZE_BILINEAR", inputs, value, options)


def _rows(writer: Writer, fused: Fused, x: Written, value: Value) -> Written:
    operation: Any = fused.operation
    kernel = operation.kernel
    rows = run(operation, np.arange(kernel.shape[0], dtype=np.float32))
    scale = kernel.scale if is_integer(kernel) else 1.0
    inputs = writer.constant("rows", rows * scale, "float32"), moving.indices(writer, x)
    return writer.emit("GATHER", inputs, value, Options("GatherOptions"))


def _alone(convert: Callable[..., Written]) -> Callable[..., Written]:
    """An operation that is written without its epilogue."""

    def converted(writer: Writer, fused: Fused, *inputs_and_value: Any) -> Written:
        return convert(writer, fused.operation, *inputs_and_value)

    return converted


_OPERATORS: Mapping[type, Callable[..., Written]] = {
    op.Activation: _activation,
    op.Affine: _affine,
    op.AveragePool: _average_pool,
    op.Concatenate: _alone(moving.concatenate),
    op.Conv2D: _convolution,
    op.Conv2DTranspose: transposed.transposed,
    op.Dense: products.dense,
    op.GlobalPool: _global_pool,
    op.Lookup: _rows,
    op.Matmul: _matmul,
    op.MaxPool: _alone(moving.max_pool),
    op.Merge: _merge,
    op.Normalize: _normalize,
    op.PReLU: _prelu,
    op.Pad: _alone(moving.pad),
    op.Recurrence: _alone(recurrence),
    op.Repeat: _alone(moving.repeat),
    op.Reshape: _alone(moving.reshape),
    op.Resize: _resize,
    op.Slice: _alone(moving.chosen),
    op.Transpose: _alone(moving.transpose),
}
