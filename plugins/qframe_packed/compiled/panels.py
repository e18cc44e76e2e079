"""Layout of the operands of matrix products: weights in panels, windows by their bytes."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from qframe.deployment.graph import operations
from qframe.deployment.graph.values import Value
from qframe_packed.compiled.epilogue import Epilogue
from qframe_packed.compiled.gemm import NEAR, Gemm
from qframe_packed.compiled.kinds import Kind
from qframe_packed.compiled.layout import Image
from qframe_packed.compiled.memory import Buffer, aligned
from qframe_packed.compiled.tiles import TILES, tile_for
from qframe_packed.compiled.vectors import padded

Array = NDArray[Any]


@attrs.frozen(eq=False)
class Operands:
    """What a product reads.

    Args:
        kind: the kind of its tiles, which says the form of its input.
        image: from which windows are read.
        pad: the number of the padding: a code, or a float.
        gemm: a function that returns the kernel for a buffer with the image.
    """

    kind: Kind
    image: Image
    pad: float
    gemm: Callable[[Buffer], Gemm]


def windows_of(conv: operations.Conv2D, shape: tuple[int, ...], image: Image) -> Array:
    """The byte where the window of each pixel begins."""
    rows, across = conv.infer(Value(shape)).shape[:2]
    y, x = np.divmod(np.arange(rows * across), across)
    first = y * conv.strides[0] * image.columns + x * conv.strides[1]
    return first * image.pixel_bytes


def one_class(conv: operations.Conv2D, shape: tuple[int, ...]) -> Array:
    """The class of each pixel where all sums of a channel start from one number."""
    return np.zeros(math.prod(conv.infer(Value(shape)).shape[:2]), np.int64)


def offsets_of(conv: operations.Conv2D, image: Image, items: int) -> Array:
    """Bytes from the beginning of a window to each of its items, or of its channels."""
    height, width = conv.kernel.shape[1:3]
    row = np.arange(height)[:, None, None] * conv.dilation[0] * image.columns
    column = np.arange(width)[:, None] * conv.dilation[1]
    offsets = (row + column) * image.items + np.arange(items)
    return offsets.reshape(-1) * (image.pixel_bytes // image.items)


def operands(
    conv: operations.Conv2D,
    kind: Kind,
    image: Image,
    pad: float,
    windows: Array,
    offsets: Array,
    weights: Array,
    group_bytes: int,
    factors: Array,
    starts: Array,
    classes: Array,
) -> Operands:
    """Lay out weights (plane, output, item) in panels (item, output).

    Args:
        conv: the product.
        kind: the kind of its tiles.
        image: from which windows are read.
        pad: the number of the padding.
        windows: see `Gemm`.
        offsets: see `Gemm`.
        weights: in the dtype of the items of the kind.
        group_bytes: bytes from the first item of a group of channels to that of the next.
        factors: (plane of the image, plane of the weights).
        starts: (class, channel), in the dtype from which sums start.
        classes: see `Gemm`.
    """
    planes, outputs, items = weights.shape
    in_group = outputs // conv.groups
    place = tile_for(kind, in_group)
    tile = TILES[place]
    panel = tile.channels
    count = -(-in_group // panel)
    wide = np.zeros((planes, conv.groups, count * panel, items), weights.dtype)
    wide[:, :, :in_group] = weights.reshape(planes, conv.groups, in_group, items)
    wide = wide.reshape(planes, conv.groups * count, panel, items).transpose(0, 1, 3, 2)
    panels = aligned(wide.shape, weights.dtype)
    panels[:] = wide
    groups, places = np.divmod(np.arange(conv.groups * count), count)
    columns = groups * in_group + places * panel
    width = max(int(columns[-1]) + panel, padded(outputs))
    wide_starts = aligned((len(starts), width), starts.dtype)
    wide_starts[:, :outputs] = starts
    chunk = max(1, min(64, NEAR // (4 * width)) // tile.pixels) * tile.pixels
    gemm = functools.partial(
        Gemm,
        image=image,
        windows=windows,
        pixels=len(windows),
        offsets=offsets,
        items=len(offsets),
        weights=panels,
        panel_bytes=panels.strides[1],
        panels=panels.shape[1],
        columns=columns,
        shifts=groups * group_bytes,
        factors=factors.astype(np.float32),
        planes=factors.shape[0],
        weight_planes=planes,
        starts=wide_starts,
        classes=classes,
        tile=place,
        multiply=tile.function,
        tile_pixels=tile.pixels,
        values=Buffer(0, 4 * chunk * width),
        addresses=Buffer(0, 24 * chunk),
        chunk=chunk,
        width=width,
        channels=outputs,
        epilogue=Epilogue(),
    )
    return Operands(kind, image, pad, gemm)
