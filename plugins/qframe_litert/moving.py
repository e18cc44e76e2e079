"""Operators that move, join, repeat, choose or look up numbers and change none."""

from __future__ import annotations

import math
from typing import Any

import attrs
import numpy as np

from qframe.deployment.graph.fused import unfused
from qframe.deployment.graph.reference import run
from qframe.deployment.graph.values import Value
from qframe_litert.model import Options
from qframe_litert.windows import bordered, pool
from qframe_litert.writer import Writer, Written


def reshape(writer: Writer, operation: Any, x: Written, value: Value) -> Written:
    """Write another shape of the same numbers; nothing for the same shape."""
    if x.shape == value.shape:
        return x
    batch = writer.settings.batch
    shape = writer.constant("shape", (-1 if batch is None else batch, *value.shape))
    return writer.emit("RESHAPE", (x.index, shape), value, Options("ReshapeOptions"))


def pad(writer: Writer, operation: Any, x: Written, value: Value) -> Written:
    """Write zeros around an image."""
    return bordered(writer, x, operation.pads)


def max_pool(writer: Writer, operation: Any, x: Written, value: Value) -> Written:
    """Write the largest number of each window."""
    return pool(writer, "MAX_POOL_2D", operation, x, value)


def global_max(writer: Writer, operation: Any, x: Written, value: Value) -> Written:
    """Write the largest number of each channel."""
    axes = writer.constant("axes", range(1, len(x.shape)))
    return writer.emit("REDUCE_MAX", (x.index, axes), value, Options("ReducerOptions"))


def concatenate(writer: Writer, operation: Any, *inputs_and_value: Any) -> Written:
    """Write tensors of one grid side by side."""
    *inputs, value = inputs_and_value
    options = Options("ConcatenationOptions", {"Axis": operation.axis})
    return writer.emit("CONCATENATION", tuple(x.index for x in inputs), value, options)


def chosen(writer: Writer, operation: Any, x: Written, value: Value) -> Written:
    """Write a slice with steps; the batch stays whole."""
    parts = zip(operation.starts, operation.sizes, operation.steps, strict=True)
    ends = [start + (size - 1) * step + 1 for start, size, step in parts]
    begin = writer.constant("begin", (0, *operation.starts))
    end = writer.constant("end", (0, *ends))
    steps = writer.constant("steps", (1, *operation.steps))
    options = Options("StridedSliceOptions", {"BeginMask": 1, "EndMask": 1})
    return writer.emit("STRIDED_SLICE", (x.index, begin, end, steps), value, options)


def transpose(writer: Writer, operation: Any, x: Written, value: Value) -> Written:
    """Write another order of the axes."""
    axes = writer.constant("axes", (0, *operation.axes))
    return writer.emit("TRANSPOSE", (x.index, axes), value, Options("TransposeOptions"))


def repeat(writer: Writer, operation: Any, x: Written, value: Value) -> Written:
    """Write each number along an axis several times, as columns of an image."""
    at = operation.axis - 1
    image = (
        *(math.prod(x.shape[:at]), x.shape[at]),
        math.prod(x.shape[operation.axis :]),
    )
    wide = image[0], image[1] * operation.count, image[2]
    y = reshape(writer, None, x, attrs.evolve(x.value, shape=image))
    size = writer.constant("size", wide[:2])
    # The nearest pixel to the center of another one is never between two.
    options = Options("ResizeNearestNeighborOptions", {"HalfPixelCenters": True})
    inputs, larger = (y.index, size), attrs.evolve(value, shape=wide)
    out = writer.emit("RESIZE_NEAREST_NEIGHBOR", inputs, larger, options)
    return reshape(writer, None, out, value)


def rows(writer: Writer, operation: Any, x: Written, value: Value) -> Written:
    """Write the rows of a matrix, which is quantized before the file is written."""
    lookup: Any = unfused(operation)
    integers = run(operation, np.arange(lookup.kernel.shape[0], dtype=np.float32))
    stored = writer.stored(value.grid).store(integers)
    table = writer.integers("rows", stored, value.grid)
    inputs = table, indices(writer, x)
    return writer.emit("GATHER", inputs, value, Options("GatherOptions"))


def indices(writer: Writer, x: Written) -> int:
    """The tensor of indices as integers of 32 bits, which floats are cut to."""
    if writer.model.tensors[x.index].dtype == "int32":
        return x.index
    return writer.cast("index", x, Value(x.shape)).index
