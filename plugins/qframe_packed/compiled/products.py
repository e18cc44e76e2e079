"""Convolutions and matrix products, laid out for tiles.

Integers are sums of bits: a number with the code c is ``middle + sum(a_i * s_i)``, where
s_i is 1 or -1 for each bit of c. So products are sums of products of bits, which are counts
of those that differ; what is constant is what the sums start from.
"""

from __future__ import annotations

import math
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from qframe_packed import operations
from qframe_packed.compiled.memory import aligned
from qframe_packed.compiled.tiles import BITS, FLOATS, TILES, Kind, tile_for
from qframe_packed.packing import Packed
from qframe_packed.values import Span, Value

Array = NDArray[Any]

MOST_PLANES = 4
# In which the bits of a pixel come.
ITEM_BYTES = max(BITS.bits // 8, 1)
# Sums up to here are exact in float32, the halves of bits included.
_EXACT = 2**20
# The most bits that differ: a 16-bit number counts them.
_MOST_BITS = 2**16 - 1


@attrs.frozen
class Image:
    """What windows are read from: (plane, row, column, item), with its padding.

    Args:
        rows, columns: with padding.
        items: of a pixel.
        top, left: where the pixels begin.
        planes: the bits of a channel; 1 for floats.
    """

    kind: Kind
    rows: int
    columns: int
    items: int
    top: int
    left: int
    planes: int

    @property
    def plane_bytes(self) -> int:
        """The bytes of one plane of a sample."""
        return self.rows * self.columns * self.items * np.dtype(self.kind.item).itemsize

    @property
    def nbytes(self) -> int:
        """The bytes of one sample."""
        return self.planes * self.plane_bytes


@attrs.frozen(eq=False)
class Product:
    """Sums of products, as the kernel `multiply` takes them.

    Args:
        image: what it reads.
        pad: the code, or float, of the padding.
        tile: the number of its tile.
        channels: its output channels.
        width: the floats of a pixel in the room to work in.
        places, items, weights, columns, shifts, factors, starts, classes: see `multiply`.
    """

    image: Image
    pad: float
    tile: int
    channels: int
    width: int
    places: Array
    items: Array
    weights: Array
    columns: Array
    shifts: Array
    factors: Array
    starts: Array
    classes: Array


@attrs.frozen(eq=False)
class _Digits:
    """Integers as sums of signs.

    Args:
        middle: what is added to them.
        weights: the number that the sign of each bit is multiplied by.
        bits: the bits of each integer, plane by plane.
    """

    middle: float
    weights: tuple[float, ...]
    bits: Array

    @classmethod
    def of(cls, span: Span, codes: Array) -> _Digits:
        if span.count == 3 and span.low + span.step == 0:
            # Both bits count for as much: so the middle is 0, which saves a plane.
            half = span.step / 2
            return cls(0.0, (half, half), np.stack([codes > 0, codes > 1]))
        planes = range(span.bits)
        bits = np.stack([(codes >> plane) & 1 for plane in planes]).astype(bool)
        return cls(*_scale(span), bits)


def _scale(span: Span) -> tuple[float, tuple[float, ...]]:
    """The middle of the codes of a span, and the weight of each bit."""
    weights = tuple(span.step * 2.0**plane / 2 for plane in range(span.bits))
    return span.low + sum(weights), weights


def product_of(operation: Any, x: Value) -> Product | None:
    """The product of an operation; None where sums may not be exact."""
    conv = operation if isinstance(operation, operations.Conv2D) else _as_conv(operation, x)
    shape = x.shape if conv is operation else (math.prod(x.shape[:-1]), 1, x.shape[-1])
    kernel, taken = conv.kernel, math.prod(conv.kernel.shape[1:])
    if x.span is not None and isinstance(kernel, Packed):
        ends = conv.infer(attrs.evolve(x, shape=shape)).span
        few = max(x.span.bits, kernel.span.bits) <= MOST_PLANES
        # The bits of a group begin where an item does.
        whole = conv.groups == 1 or not kernel.shape[-1] % (8 * ITEM_BYTES)
        if few and whole and taken <= _MOST_BITS and _largest(ends) < _EXACT:
            return _of_bits(conv, shape, x.span)
        if _largest(ends) >= 16 * _EXACT:
            return None
    return _of_floats(conv, shape)


def _as_conv(operation: operations.Dense, x: Value) -> operations.Conv2D:
    kernel = operation.kernel
    shape = (kernel.shape[0], 1, 1, kernel.shape[1])
    if isinstance(kernel, Packed):
        return operations.Conv2D(kernel=attrs.evolve(kernel, shape=shape))
    return operations.Conv2D(kernel=kernel.reshape(shape))


def _largest(span: Span | None) -> int:
    assert span is not None  # noqa: S101
    return max(abs(span.low), abs(span.high))


def _of_bits(conv: operations.Conv2D, shape: tuple[int, ...], span: Span) -> Product:
    codes = conv.kernel.codes()
    outputs, height, width, channels = codes.shape
    digits = _Digits.of(conv.kernel.span, codes)
    integers = conv.kernel.integers().astype(np.float64)
    weights, scales = digits.bits, digits.weights
    if digits.middle:
        weights = np.concatenate([weights, np.ones((1, *codes.shape), bool)])
        scales = (*scales, digits.middle)
    middle, mine = _scale(span)
    factors = np.array([[-2 * a * b for b in scales] for a in mine])
    image = _image(conv, shape, BITS, items_of(shape[2]), span.bits)
    # What is not in the span is padded with the lowest, and then corrected.
    inside = span.low <= conv.pad <= span.high and not (conv.pad - span.low) % span.step
    pad = (conv.pad - span.low) // span.step if inside else 0
    taps = integers.sum(axis=3).reshape(outputs, -1)
    start = middle * taps.sum(axis=1) - factors.sum() / 2 * (height * width * channels)
    beyond = (conv.pad - (span.low + span.step * pad)) * taps
    outside, classes = _classes(conv, shape)
    starts = start + outside.astype(np.float64) @ beyond.T
    items = _items(weights)
    return _laid_out(conv, shape, image, items, pad, factors, starts, classes)


def _of_floats(conv: operations.Conv2D, shape: tuple[int, ...]) -> Product:
    kernel = conv.kernel
    numbers = kernel.integers() if isinstance(kernel, Packed) else kernel
    image = _image(conv, shape, FLOATS, shape[2], 1)
    classes = np.zeros(math.prod(conv.infer(Value(shape)).shape[:2]), np.int64)
    starts = np.zeros((1, len(numbers)))
    items = numbers.astype(np.float32)[None]
    return _laid_out(conv, shape, image, items, conv.pad, np.ones((1, 1)), starts, classes)


def items_of(channels: int) -> int:
    """The items that hold the bits of so many channels."""
    # Whole bytes of bits are read, and written.
    room = 8 * ITEM_BYTES
    return -(-channels // room) * room // BITS.bits


def _items(bits: Array) -> Array:
    """Bits (..., channel) as the items of weights."""
    room = items_of(bits.shape[-1]) * BITS.bits - bits.shape[-1]
    wide = np.pad(bits, [(0, 0)] * (bits.ndim - 1) + [(0, room)])
    packed = np.packbits(wide, axis=-1, bitorder="little")
    if BITS.bits == 64:
        return packed.view(np.uint64)
    # What an item of an image has in its upper half, a weight has in its lower one.
    return np.stack([packed & 15, packed >> 4], axis=-1).reshape(*packed.shape[:-1], -1)


def _image(
    conv: operations.Conv2D, shape: tuple[int, ...], kind: Kind, items: int, planes: int
) -> Image:
    top, bottom, left, right = conv.pads
    rows, columns = shape[0] + top + bottom, shape[1] + left + right
    return Image(kind, rows, columns, items, top, left, planes)


def _classes(conv: operations.Conv2D, shape: tuple[int, ...]) -> tuple[Array, Array]:
    """Which taps are outside the image, for each kind of pixel; the kind of each."""
    places = conv.infer(Value(shape)).shape[:2]
    sides = []
    for axis in (0, 1):
        at = np.arange(places[axis])[:, None] * conv.strides[axis] - conv.pads[2 * axis]
        at = at + np.arange(conv.kernel.shape[1 + axis]) * conv.dilation[axis]
        sides.append((at < 0) | (at >= shape[axis]))
    rows, columns = (np.unique(side, axis=0, return_inverse=True) for side in sides)
    outside = rows[0][:, None, :, None] | columns[0][None, :, None, :]
    kinds = rows[1].reshape(-1, 1) * len(columns[0]) + columns[1].reshape(1, -1)
    return outside.reshape(len(rows[0]) * len(columns[0]), -1), kinds.reshape(-1).astype(
        np.int64
    )


def _laid_out(
    conv: operations.Conv2D,
    shape: tuple[int, ...],
    image: Image,
    weights: Array,
    pad: float,
    factors: Array,
    starts: Array,
    classes: Array,
) -> Product:
    """Weights (plane, output, row, column, item) as tiles read them."""
    kind, size = image.kind, np.dtype(image.kind.item).itemsize
    planes, outputs = weights.shape[:2]
    mine = outputs // conv.groups
    number = tile_for(kind, mine)
    block = TILES[number].channels
    count = -(-mine // block)
    wide = np.zeros((planes, conv.groups, count * block, *weights.shape[2:]), weights.dtype)
    wide[:, :, :mine] = weights.reshape(planes, conv.groups, mine, *weights.shape[2:])
    wide = wide.reshape(planes, conv.groups * count, block, -1).transpose(0, 1, 3, 2)
    laid = aligned(wide.shape, weights.dtype)
    laid[:] = wide
    groups, blocks = np.divmod(np.arange(conv.groups * count), count)
    columns = groups * mine + blocks * block
    rows, across = conv.infer(Value(shape)).shape[:2]
    y, x = np.divmod(np.arange(rows * across), across)
    at = y * conv.strides[0] * image.columns + x * conv.strides[1]
    width = int(columns[-1]) + block
    start = aligned((len(starts), width), np.float32)
    start[:, :outputs] = starts
    return Product(
        image=image,
        pad=pad,
        tile=number,
        channels=outputs,
        width=width,
        places=at * image.items * size,
        items=_offsets(conv, image, weights.shape[-1]),
        weights=laid.view(np.uint8).reshape(planes, conv.groups * count, -1),
        columns=columns,
        shifts=groups * (weights.shape[-1] * size),
        factors=factors.astype(np.float32),
        starts=start,
        classes=classes,
    )


def _offsets(conv: operations.Conv2D, image: Image, items: int) -> Array:
    """The bytes from where a window begins to each of its items."""
    height, width = conv.kernel.shape[1:3]
    row = np.arange(height)[:, None, None] * conv.dilation[0] * image.columns
    column = np.arange(width)[:, None] * conv.dilation[1]
    found = (row + column) * image.items + np.arange(items)
    return found.reshape(-1) * np.dtype(image.kind.item).itemsize
