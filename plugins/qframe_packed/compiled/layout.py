"""Kernels that change the layout of a tensor: padding, unpacking of bits."""

from __future__ import annotations

import math
from typing import Any

import attrs
import numba
import numpy as np

from qframe.deployment.graph.values import Value
from qframe_packed.compiled.addresses import bytes_at, floats_at
from qframe_packed.compiled.kinds import Lookup
from qframe_packed.compiled.memory import Buffer
from qframe_packed.compiled.parameters import Address, Parameters, Record
from qframe_packed.compiled.tiles import BITS, FLOATS, ITEM_BYTES
from qframe_packed.compiled.vectors import copy

# True if an item of bits is 4 bits, in the upper half of a byte.
HALVES = isinstance(BITS, Lookup)


@attrs.frozen
class Bits(Record):
    """Layout of a tensor as bits: (pixel, plane, byte)."""

    pixels: int  # of a sample
    planes: int  # bits of a channel
    plane_bytes: int  # of a pixel
    channels: int
    low: float  # the number of the code 0
    step: float  # between the numbers of two codes

    @classmethod
    def of(cls, value: Value) -> Bits:
        """Layout of a tensor of integers."""
        span, (*pixels, channels) = value.span, value.shape
        assert span is not None  # noqa: S101
        size = -(-channels // 8)
        return cls(math.prod(pixels), span.bits, size, channels, span.low, span.step)

    @property
    def nbytes(self) -> int:
        """Bytes of a sample."""
        return self.pixels * self.planes * self.plane_bytes


@attrs.frozen
class Image(Record):
    """Layout of a tensor from which windows are read: (plane, row, column, item)."""

    height: int  # without padding
    width: int
    rows: int  # with padding
    columns: int
    top: int  # rows of padding above
    left: int  # columns of padding before
    planes: int  # bits of a channel; 0 for floats and codes
    items: int  # of a pixel in one plane; of codes each is a single one
    pixel_bytes: int  # in one plane

    @classmethod
    def of(cls, shape: tuple[int, ...], pads: tuple[int, ...], planes: int = 0) -> Image:
        """Layout of a tensor of this shape, with padding."""
        height, width, channels = shape
        top, bottom, left, right = pads
        items = items_of(channels) if planes else channels
        return cls(
            *(height, width, height + top + bottom, width + left + right, top, left),
            *(planes, items, items * np.dtype((BITS if planes else FLOATS).item).itemsize),
        )

    @classmethod
    def of_codes(cls, shape: tuple[int, ...], pads: tuple[int, ...]) -> Image:
        """Layout of the codes of a tensor of this shape, with padding."""
        return attrs.evolve(cls.of(shape, pads), pixel_bytes=shape[-1])

    @property
    def is_padded(self) -> bool:
        """Return whether it has more than the pixels of the tensor."""
        return (self.rows, self.columns) != (self.height, self.width)

    @property
    def plane_bytes(self) -> int:
        """Bytes of one plane of a sample."""
        return self.rows * self.columns * self.pixel_bytes

    @property
    def nbytes(self) -> int:
        """Bytes of a sample."""
        return max(self.planes, 1) * self.plane_bytes


def items_of(channels: int) -> int:
    """Items that contain the bits of this number of channels."""
    # Bits are read and written by whole bytes.
    room = 8 * ITEM_BYTES
    return -(-channels // room) * room // BITS.bits


@numba.njit(inline="always")
def _fill(out: int, pixel: int, size: int, count: int) -> None:
    """Write the bytes of a pixel `count` times."""
    source = bytes_at(pixel)
    for i in range(count):
        copied = bytes_at(out + i * size)
        for j in range(size):
            copied[j] = source[j]


@attrs.frozen(eq=False)
class Spread(Parameters):
    """Bits as the items of an image, with padding."""

    source: Address
    bits: Bits
    image: Image
    out: Address
    padding: Address  # a pixel of each plane; 0 without padding

    @classmethod
    def of(cls, source: Buffer, bits: Bits, image: Image, out: Buffer, pad: int) -> Spread:
        """The kernel for padding with a code."""
        size = bits.plane_bytes * (2 if HALVES else 1), image.height, image.width
        if size == (image.pixel_bytes, image.rows, image.columns):
            return cls(source, bits, image, out, padding=0)
        codes = [pad >> plane & 1 for plane in range(bits.planes)]
        pixels = [_padding(code, bits.channels, image.pixel_bytes) for code in codes]
        return cls(source, bits, image, out, np.stack(pixels))

    @property
    def parts(self) -> int:
        return self.image.rows

    @property
    def cost(self) -> float:
        return float(self.image.nbytes)

    @staticmethod
    @numba.njit
    def run(begin: int, end: int, p: Any) -> None:
        image, planes, plane_bytes = p.image, p.bits.planes, p.bits.plane_bytes
        height, width, size = image.height, image.width, image.pixel_bytes
        for number in range(begin, end):
            s, down = number // image.rows, number % image.rows
            y = down - image.top
            for q in range(planes):
                row = ((s * planes + q) * image.rows + down) * image.columns
                if p.padding:
                    _fill(p.out + row * size, p.padding + q * size, size, image.columns)
                if y < 0 or y >= height:
                    continue
                inside = p.out + (row + image.left) * size
                pixel = p.source + ((s * height + y) * width * planes + q) * plane_bytes
                for x in range(width):
                    source = bytes_at(pixel + x * planes * plane_bytes)
                    out = bytes_at(inside + x * size)
                    if HALVES:
                        for i in range(plane_bytes):
                            out[2 * i] = source[i] << 4
                            out[2 * i + 1] = source[i] & 0xF0
                    else:
                        for i in range(plane_bytes):
                            out[i] = source[i]


def _padding(bit: int, channels: int, size: int) -> Any:
    """Bytes of a pixel, all of whose channels have this bit."""
    packed = np.packbits(np.full(channels, bit, np.uint8), bitorder="little")
    if HALVES:
        packed = np.stack([packed << 4, packed & 0xF0], axis=-1).reshape(-1)
    return np.pad(packed, (0, size - len(packed)))


@attrs.frozen(eq=False)
class Surround(Parameters):
    """Floats with padding."""

    source: Address
    image: Image
    out: Address
    padding: float

    @property
    def parts(self) -> int:
        return self.image.rows

    @staticmethod
    @numba.njit
    def run(begin: int, end: int, p: Any) -> None:
        image, channels, padding = p.image, p.image.items, p.padding
        height, length = image.height, image.width * channels
        for number in range(begin, end):
            s, y = number // image.rows, number % image.rows - image.top
            row = p.out + 4 * number * image.columns * channels
            out = floats_at(row)
            for i in range(image.columns * channels):
                out[i] = padding
            if 0 <= y < height:
                source = p.source + 4 * (s * height + y) * length
                copy(row + 4 * image.left * channels, source, length)


@attrs.frozen(eq=False)
class Unpack(Parameters):
    """Bits as floats."""

    source: Address
    bits: Bits
    out: Address

    @property
    def parts(self) -> int:
        return self.bits.pixels

    @staticmethod
    @numba.njit
    def run(begin: int, end: int, p: Any) -> None:
        planes, plane_bytes, channels = p.bits.planes, p.bits.plane_bytes, p.bits.channels
        low, step = p.bits.low, p.bits.step
        for i in range(begin, end):
            source = bytes_at(p.source + i * planes * plane_bytes)
            out = floats_at(p.out + 4 * i * channels)
            for c in range(channels):
                code = 0
                for q in range(planes):
                    code |= ((source[q * plane_bytes + (c >> 3)] >> (c & 7)) & 1) << q
                out[c] = low + step * code
