"""Transposed convolutions, whose operator takes the shape of its result."""

from __future__ import annotations

from typing import Any

import attrs

from qframe.deployment.graph.fused import Fused
from qframe.deployment.graph.operations import Slice
from qframe.deployment.graph.values import Value
from qframe_litert.model import TYPES, Options, Tensor
from qframe_litert.moving import chosen
from qframe_litert.products import product
from qframe_litert.windows import SAME, VALID
from qframe_litert.writer import Writer, Written


def transposed(writer: Writer, fused: Fused, x: Written, value: Value) -> Written:
    """Write a transposed convolution, and a slice if no padding describes its ends."""
    operation: Any = fused.operation
    settings = {"StrideH": operation.strides[0], "StrideW": operation.strides[1]}
    axes = range(2)
    if all(
        _crop_of_same(operation, x.shape, axis) == operation.crops[axis] for axis in axes
    ):
        return _write(writer, fused, x, value, {**settings, "Padding": SAME})
    settings["Padding"] = VALID
    if not any(operation.crops) and all(_reached(operation, x.shape, a) for a in axes):
        return _write(writer, fused, x, value, settings)
    size = [
        max(_full(operation, x.shape, axis), operation.size[axis] + operation.crops[axis])
        for axis in axes
    ]
    whole = attrs.evolve(value, shape=(*size, value.shape[2]))
    out = _write(writer, fused, x, whole, settings)
    part = Slice((*operation.crops, 0), value.shape, (1, 1, 1))
    return chosen(writer, part, out, value)


def _full(operation: Any, shape: tuple[int, ...], axis: int) -> int:
    """The number of sums that a kernel reaches."""
    reach = operation.kernel.shape[axis + 1]
    return int((shape[axis] - 1) * operation.strides[axis] + reach)


def _reached(operation: Any, shape: tuple[int, ...], axis: int) -> bool:
    """Return whether a result has all sums that a kernel reaches."""
    return bool(operation.size[axis] >= _full(operation, shape, axis))


def _crop_of_same(operation: Any, shape: tuple[int, ...], axis: int) -> int | None:
    """The sums before the result by padding "same"; None if its size is another."""
    size, stride = operation.size[axis], operation.strides[axis]
    if -(-size // stride) != shape[axis]:
        return None
    return max(_full(operation, shape, axis) - size, 0) // 2


def _write(
    writer: Writer, fused: Fused, x: Written, value: Value, settings: dict[str, Any]
) -> Written:
    batch = writer.settings.batch
    if batch is None:
        shape = _shape_of(writer, x, value.shape)
    else:
        shape = writer.constant("shape", (batch, *value.shape))
    return product(writer, fused, x, value, "TRANSPOSE_CONV", settings, shape=shape)


def _shape_of(writer: Writer, x: Written, shape: tuple[int, ...]) -> int:
    """The shape of a result, with the batch of what comes in."""
    whole, batch, joined = (
        writer.model.add_tensor(Tensor(f"{writer.name}/{part}", (size,), "int32"))
        for part, size in (("sizes", len(x.shape) + 1), ("batch", 1), ("shape", 4))
    )
    writer.operator(
        "SHAPE", (x.index,), whole, Options("ShapeOptions", {"OutType": TYPES["int32"]})
    )
    ends = (writer.constant(part, [at]) for part, at in (("begin", 0), ("end", 1)))
    inputs = whole, *ends, writer.constant("steps", [1])
    writer.operator("STRIDED_SLICE", inputs, batch, Options("StridedSliceOptions"), 1)
    inputs = batch, writer.constant("pixels", shape)
    writer.operator("CONCATENATION", inputs, joined, Options("ConcatenationOptions"), 1)
    return joined
