"""Means of windows and images, and images of another size."""

from __future__ import annotations

import math
from typing import Any

import attrs
import numpy as np

from qframe.deployment.graph.fused import Fused
from qframe.deployment.graph.operations import Concatenate, Slice
from qframe.deployment.graph.values import Grid, Value
from qframe.errors import QFrameError
from qframe_litert import moving
from qframe_litert.elementwise import on_grid
from qframe_litert.grids import ENDS
from qframe_litert.model import Options
from qframe_litert.products import channelwise, convolution
from qframe_litert.windows import pool
from qframe_litert.writer import Writer, Written

# Of windows with different numbers inside: nine for windows of 3, which is usual.
_MOST_BANDS = 25
# The steps between two pixels.
_PLACES = 2**10


def average_pool(writer: Writer, fused: Fused, x: Written, value: Value) -> Written:
    """Write the mean of each window.

    A depthwise convolution with equal weights rounds once, and half to even on XNNPACK. The
    runtime's own pool rounds half away from the stored 0, to the grid that it reads. It
    takes 16 bits, for which the multiplier of a convolution has too few.
    """
    operation: Any = fused.operation
    same = writer.stored(x.grid) == writer.stored(value.grid)
    if same and fused.activation is None and writer.settings.activations == "int16":
        return pool(writer, "AVERAGE_POOL_2D", operation, x, value)
    rows, columns = (_bands(operation, x.shape, axis) for axis in (0, 1))
    if len(rows) * len(columns) > _MOST_BANDS:
        raise QFrameError(
            f"its windows of {list(operation.pool)} reach beyond the image in "
            f"{len(rows) * len(columns)} different ways. Build it with padding='valid', or "
            "with a smaller pool_size"
        )
    if len(rows) == len(columns) == 1:
        return _mean(writer, fused, x, value, rows[0], columns[0])
    parts = []
    for row in rows:
        across = [
            _mean(writer, fused, _region(writer, x, row, column), value, row, column)
            for column in columns
        ]
        parts.append(_joined(writer, across, 2))
    return _joined(writer, parts, 1)


@attrs.frozen
class _Band:
    """Windows one after another along an axis, each with the same numbers inside.

    Args:
        begin: the first row or column that they read.
        end: the one after the last.
        window: the size of a window.
        count: the number of windows.
    """

    begin: int
    end: int
    window: int
    count: int = 1


def _bands(operation: Any, shape: tuple[int, ...], axis: int) -> list[_Band]:
    """The windows of a pool along an axis, without what is outside of the image."""
    size, window, stride = shape[axis], operation.pool[axis], operation.strides[axis]
    before, after = operation.pads[2 * axis : 2 * axis + 2]
    bands: list[_Band] = []
    for start in range(-before, size + after - window + 1, stride):
        begin, end = max(start, 0), min(start + window, size)
        last = bands[-1] if bands else None
        if last and (last.window, last.end + stride) == (end - begin, end):
            bands[-1] = attrs.evolve(last, end=end, count=last.count + 1)
        else:
            bands.append(_Band(begin, end, end - begin))
    return bands


def _region(writer: Writer, x: Written, row: _Band, column: _Band) -> Written:
    sizes = row.end - row.begin, column.end - column.begin, x.shape[2]
    part = Slice((row.begin, column.begin, 0), sizes, (1, 1, 1))
    return moving.chosen(writer, part, x, attrs.evolve(x.value, shape=sizes))


def _mean(
    writer: Writer, fused: Fused, x: Written, value: Value, row: _Band, column: _Band
) -> Written:
    """Write the mean of windows that are all of one size."""
    operation: Any = fused.operation
    channels, window = x.shape[2], (row.window, column.window)
    kernel = np.ones((channels, *window), np.int8)
    scale, shift = np.full(channels, 1 / math.prod(window)), np.zeros(channels)
    product = channelwise(x, kernel, scale, shift, fused, operation.strides)
    result = attrs.evolve(value, shape=(row.count, column.count, channels))
    return convolution(writer, product, x, result)


def _joined(writer: Writer, parts: list[Written], axis: int) -> Written:
    """Write parts of an image side by side."""
    shape = list(parts[0].shape)
    shape[axis - 1] = sum(part.shape[axis - 1] for part in parts)
    value = attrs.evolve(parts[0].value, shape=tuple(shape))
    return moving.concatenate(writer, Concatenate(axis), *parts, value)


def global_average(writer: Writer, fused: Fused, x: Written, value: Value) -> Written:
    """Write the mean of each channel."""
    if fused.activation is not None:
        raise QFrameError("a ReLU follows its mean, and no quantizer is between them")
    axes = writer.constant("axes", range(1, len(x.shape)))
    return writer.emit("MEAN", (x.index, axes), value, Options("ReducerOptions"))


def resize(writer: Writer, fused: Fused, x: Written, value: Value) -> Written:
    """Write an image of another size, bilinear; the runtime keeps the grid."""
    operation: Any = fused.operation
    if writer.settings.activations == "int16":
        _check_places(operation.size, x.shape)
    x = _finer(writer, x)
    size = writer.constant("size", operation.size)
    between = attrs.evolve(value, grid=x.grid)
    options = Options("ResizeBilinearOptions", {"HalfPixelCenters": True})
    y = writer.emit("RESIZE_BILINEAR", (x.index, size), between, options)
    return on_grid(writer, y, value.grid, fused.activation, fused.quantize)


def _finer(writer: Writer, x: Written) -> Written:
    """The same numbers in steps as small as the type has, to which an operator rounds."""
    span, (low, high) = x.grid.span, ENDS["int8"]
    parts = (high - low) // max(1, span.high - span.low)
    # Those of 16 bits are fine enough, and two levels are as far apart as can be already.
    coarse = writer.settings.activations == "int8" and span.step == 1 and span.count > 2
    if not coarse or parts < 2:
        return x
    scale = float(x.grid.scale) / parts
    return on_grid(writer, x, Grid(span.low * parts, span.high * parts, 1, scale))


def _check_places(size: tuple[int, int], shape: tuple[int, ...]) -> None:
    """Raise `QFrameError` unless 10 bits hold the places between pixels, as in 16 bits."""
    for large, small in zip(size, shape[:2], strict=True):
        if small * _PLACES % (2 * large):
            raise QFrameError(
                f"it resizes {small} pixels to {large}, and the runtime computes places "
                "between pixels in 10 bits, which is too few for activations of 16. Resize "
                "by 2, 4 or 8, or write activations=8"
            )
