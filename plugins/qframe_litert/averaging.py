"""Means of windows and images, and images of another size."""

from __future__ import annotations

import math
from typing import Any

import attrs
import numpy as np

from qframe.deployment.graph.fused import Fused
from qframe.deployment.graph.values import Value
from qframe.errors import QFrameError
from qframe_litert.elementwise import on_grid
from qframe_litert.model import Options
from qframe_litert.products import channelwise, convolution
from qframe_litert.windows import pool
from qframe_litert.writer import Edge, Writer

# The steps between two pixels.
_PLACES = 2**10


def average_pool(writer: Writer, fused: Fused, x: Edge, value: Value) -> Edge:
    """Write the mean of each window.

    A depthwise convolution with equal weights rounds once, and half to even on XNNPACK. The
    runtime's own pool rounds half away from the stored 0, to the grid that it reads. It
    takes the windows at a border, which have fewer numbers; and 16 bits, for which the
    multiplier of a convolution has too few.
    """
    operation: Any = fused.operation
    same = writer.stored(x.grid) == writer.stored(value.grid)
    keeps = same and fused.activation is None
    if any(operation.pads) or (keeps and writer.settings.activations == "int16"):
        part, before = (
            (None, value) if keeps else ("mean", attrs.evolve(value, grid=x.grid))
        )
        y = pool(writer, "AVERAGE_POOL_2D", operation, x, before, part)
        return on_grid(writer, y, value.grid, fused.activation)
    channels = x.shape[2]
    kernel = np.ones((channels, *operation.pool), np.int8)
    scale, shift = np.full(channels, 1 / math.prod(operation.pool)), np.zeros(channels)
    product = channelwise(x, kernel, scale, shift, fused, operation.strides)
    return convolution(writer, product, x, value)


def global_average(writer: Writer, fused: Fused, x: Edge, value: Value) -> Edge:
    """Write the mean of each channel."""
    if fused.activation is not None:
        raise QFrameError("a ReLU follows its mean, and no quantizer is between them")
    axes = writer.constant("axes", range(1, len(x.shape)))
    return writer.emit("MEAN", (x.index, axes), value, Options("ReducerOptions"))


def resize(writer: Writer, fused: Fused, x: Edge, value: Value) -> Edge:
    """Write an image of another size, bilinear; the runtime keeps the grid."""
    operation: Any = fused.operation
    if writer.settings.activations == "int16":
        _check_places(operation.size, x.shape)
    size = writer.constant("size", operation.size)
    between = attrs.evolve(value, grid=x.grid)
    same = writer.stored(x.grid) == writer.stored(value.grid)
    part = None if same and fused.activation is None else "resized"
    y = writer.emit(
        "RESIZE_BILINEAR",
        (x.index, size),
        between,
        Options("ResizeBilinearOptions", {"HalfPixelCenters": True}),
        part,
    )
    return y if part is None else on_grid(writer, y, value.grid, fused.activation)


def _check_places(size: tuple[int, int], shape: tuple[int, ...]) -> None:
    """Raise `QFrameError` unless 10 bits hold the places between pixels, as in 16 bits."""
    for large, small in zip(size, shape[:2], strict=True):
        if small * _PLACES % (2 * large):
            raise QFrameError(
                f"it resizes {small} pixels to {large}, and the runtime computes places "
                "between pixels in 10 bits, which is too few for activations of 16. Resize "
                "by 2, 4 or 8, or write activations=8"
            )
