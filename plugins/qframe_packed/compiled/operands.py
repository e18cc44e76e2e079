"""Operands of matrix products, from convolutions and dense layers.

An integer with the code c is ``middle + sum(a_i * s_i)``, where s_i is 1 or -1 for each bit
of c. So products of integers are sums of products of bits, which are counts of bits that
differ. The constant part is in the numbers from which sums start.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from qframe.deployment.graph import operations
from qframe.deployment.graph.values import Span, Value
from qframe_packed.compiled.epilogue import Epilogue
from qframe_packed.compiled.gemm import NEAR, Gemm
from qframe_packed.compiled.layout import Image, items_of
from qframe_packed.compiled.memory import Buffer, aligned
from qframe_packed.compiled.tiles import BITS, FLOATS, ITEM_BYTES, TILES, tile_for
from qframe_packed.compiled.vectors import padded
from qframe_packed.packing import PackedTensor

Array = NDArray[Any]

MOST_PLANES = 4
# Sums below it are exact in float32, the halves of bits included.
_EXACT = 2**20
# The most bits of a sum, which 16-bit numbers count.
_MOST_BITS = 2**16 - 1
# The image from which windows are read, the number of its padding (a code, or a float), and
# a function that returns the kernel for a buffer with that image.
Product = tuple[Image, float, Callable[[Buffer], Gemm]]


@attrs.frozen(eq=False)
class _Digits:
    """Integers as sums of signs.

    Args:
        middle: a constant that is added.
        weights: the factor of the sign of each bit.
        bits: the bits of each integer, plane by plane.
    """

    middle: float
    weights: tuple[float, ...]
    bits: Array

    @classmethod
    def of(cls, span: Span, codes: Array) -> _Digits:
        if span.count == 3 and span.low + span.step == 0:
            # With equal weights the middle is 0, which saves a plane.
            half = span.step / 2
            return cls(0.0, (half, half), np.stack([codes > 0, codes > 1]))
        planes = range(span.bits)
        bits = np.stack([(codes >> plane) & 1 for plane in planes]).astype(bool)
        return cls(*_scale(span), bits)


def _scale(span: Span) -> tuple[float, tuple[float, ...]]:
    """The middle of the codes of a span, and the weight of each bit."""
    weights = tuple(span.step * 2.0**plane / 2 for plane in range(span.bits))
    return span.low + sum(weights), weights


def operands_of(operation: Any, x: Value) -> Product | None:
    """Operands of a convolution or dense layer; None where sums may not be exact."""
    conv = operation if isinstance(operation, operations.Conv2D) else _as_conv(operation)
    shape = x.shape if conv is operation else (math.prod(x.shape[:-1]), 1, x.shape[-1])
    kernel, terms = conv.kernel, math.prod(conv.kernel.shape[1:])
    if x.span is not None and isinstance(kernel, PackedTensor):
        largest = _largest(conv.infer(attrs.evolve(x, shape=shape)).span)
        few = max(x.span.bits, kernel.span.bits) <= MOST_PLANES
        # The bits of a group begin where an item does.
        whole = conv.groups == 1 or not kernel.shape[-1] % (8 * ITEM_BYTES)
        if few and whole and terms <= _MOST_BITS and largest < _EXACT:
            return _of_bits(conv, shape, x.span)
        if largest >= 16 * _EXACT:
            return None
    return _of_floats(conv, shape)


def _as_conv(operation: operations.Dense) -> operations.Conv2D:
    kernel = operation.kernel
    shape = (kernel.shape[0], 1, 1, kernel.shape[1])
    if isinstance(kernel, PackedTensor):
        return operations.Conv2D(kernel=attrs.evolve(kernel, shape=shape))
    return operations.Conv2D(kernel=kernel.reshape(shape))


def _largest(span: Span | None) -> int:
    assert span is not None  # noqa: S101
    return max(abs(span.low), abs(span.high))


def _of_bits(conv: operations.Conv2D, shape: tuple[int, ...], span: Span) -> Product:
    codes = conv.kernel.codes()
    outputs, height, width, channels = codes.shape
    digits = _Digits.of(conv.kernel.span, codes)
    weights, scales = digits.bits, digits.weights
    if digits.middle:
        weights = np.concatenate([weights, np.ones((1, *codes.shape), bool)])
        scales = (*scales, digits.middle)
    middle, image_scales = _scale(span)
    factors = np.array([[-2 * a * b for b in scales] for a in image_scales])
    image = Image.of(shape, conv.pads, span.bits)
    # Padding that is not in the span becomes the lowest code, and the starts correct it.
    inside = span.low <= conv.pad <= span.high and not (conv.pad - span.low) % span.step
    pad = (conv.pad - span.low) // span.step if inside else 0
    sums = conv.kernel.integers().astype(np.float64).sum(axis=3).reshape(outputs, -1)
    start = middle * sums.sum(axis=1) - factors.sum() / 2 * (height * width * channels)
    correction = (conv.pad - (span.low + span.step * pad)) * sums
    outside, classes = _classes(conv, shape)
    starts = start + outside.astype(np.float64) @ correction.T
    return _operands(conv, shape, image, _items(weights), pad, factors, starts, classes)


def _of_floats(conv: operations.Conv2D, shape: tuple[int, ...]) -> Product:
    kernel = conv.kernel
    numbers = kernel.integers() if isinstance(kernel, PackedTensor) else kernel
    image = Image.of(shape, conv.pads)
    classes = np.zeros(math.prod(conv.infer(Value(shape)).shape[:2]), np.int64)
    starts = np.zeros((1, len(numbers)))
    items = numbers.astype(np.float32)[None]
    return _operands(conv, shape, image, items, conv.pad, np.ones((1, 1)), starts, classes)


def _items(bits: Array) -> Array:
    """Bits (..., channel) as items of weights."""
    room = items_of(bits.shape[-1]) * BITS.bits - bits.shape[-1]
    wide = np.pad(bits, [(0, 0)] * (bits.ndim - 1) + [(0, room)])
    packed = np.packbits(wide, axis=-1, bitorder="little")
    if BITS.bits == 64:
        return packed.view(np.uint64)
    # The 4 bits of an item are in the upper half of a byte in an image, the lower one here.
    return np.stack([packed & 15, packed >> 4], axis=-1).reshape(*packed.shape[:-1], -1)


def _classes(conv: operations.Conv2D, shape: tuple[int, ...]) -> tuple[Array, Array]:
    """Classes of pixels by the part of their window in the padding; the class of each."""
    pixels = conv.infer(Value(shape)).shape[:2]
    sides = []
    for axis in (0, 1):
        at = np.arange(pixels[axis])[:, None] * conv.strides[axis] - conv.pads[2 * axis]
        at = at + np.arange(conv.kernel.shape[1 + axis]) * conv.dilation[axis]
        sides.append((at < 0) | (at >= shape[axis]))
    rows, columns = (np.unique(side, axis=0, return_inverse=True) for side in sides)
    outside = rows[0][:, None, :, None] | columns[0][None, :, None, :]
    classes = rows[1].reshape(-1, 1) * len(columns[0]) + columns[1].reshape(1, -1)
    return (
        outside.reshape(len(rows[0]) * len(columns[0]), -1),
        classes.reshape(-1).astype(np.int64),
    )


def _operands(
    conv: operations.Conv2D,
    shape: tuple[int, ...],
    image: Image,
    weights: Array,
    pad: float,
    factors: Array,
    starts: Array,
    classes: Array,
) -> Product:
    """Lay out weights (plane, output, row, column, item) in panels (item, output)."""
    planes, outputs = weights.shape[:2]
    in_group = outputs // conv.groups
    place = tile_for(BITS if image.planes else FLOATS, in_group)
    tile = TILES[place]
    panel = tile.channels
    count = -(-in_group // panel)
    shape_of_output = weights.shape[2:]
    wide = np.zeros((planes, conv.groups, count * panel, *shape_of_output), weights.dtype)
    wide[:, :, :in_group] = weights.reshape(planes, conv.groups, in_group, *shape_of_output)
    wide = wide.reshape(planes, conv.groups * count, panel, -1).transpose(0, 1, 3, 2)
    panels = aligned(wide.shape, weights.dtype)
    panels[:] = wide
    groups, places = np.divmod(np.arange(conv.groups * count), count)
    columns = groups * in_group + places * panel
    rows, across = conv.infer(Value(shape)).shape[:2]
    y, x = np.divmod(np.arange(rows * across), across)
    windows = y * conv.strides[0] * image.columns + x * conv.strides[1]
    width = max(int(columns[-1]) + panel, padded(outputs))
    wide_starts = aligned((len(starts), width), np.float32)
    wide_starts[:, :outputs] = starts
    chunk = max(1, min(64, NEAR // (4 * width)) // tile.pixels) * tile.pixels
    offsets = _offsets(conv, image, weights.shape[-1])
    gemm = functools.partial(
        Gemm,
        image=image,
        windows=windows * image.pixel_bytes,
        pixels=len(windows),
        offsets=offsets,
        items=len(offsets),
        weights=panels,
        panel_bytes=panels.strides[1],
        panels=panels.shape[1],
        columns=columns,
        shifts=groups * (weights.shape[-1] * weights.itemsize),
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
    return image, pad, gemm


def _offsets(conv: operations.Conv2D, image: Image, items: int) -> Array:
    """Bytes from the beginning of a window to each of its items."""
    height, width = conv.kernel.shape[1:3]
    row = np.arange(height)[:, None, None] * conv.dilation[0] * image.columns
    column = np.arange(width)[:, None] * conv.dilation[1]
    offsets = (row + column) * image.items + np.arange(items)
    return offsets.reshape(-1) * (image.pixel_bytes // image.items)
