"""Kernels that reduce pixels or channels: pools, the mean of an image, softmax."""

from __future__ import annotations

from typing import Any

import attrs
import numba
import numpy as np

from qframe.deployment.graph import operations
from qframe.deployment.graph.values import Value
from qframe_packed.compiled.addresses import bytes_at, floats_at, words_at
from qframe_packed.compiled.memory import Buffer
from qframe_packed.compiled.parameters import Address, Parameters, Record
from qframe_packed.compiled.reductions import largest_of_window, sum_window

_Pool = operations.MaxPool | operations.AveragePool


@attrs.frozen(eq=False)
class Windows(Record):
    """The windows of an image that a pool reduces, and the image."""

    height: int  # of the image
    width: int  # of the image
    pool_height: int
    pool_width: int
    stride_down: int
    stride_across: int
    pad_top: int
    pad_left: int

    @classmethod
    def of(cls, operation: _Pool, x: Value) -> Windows:
        """The windows of the operation on `x`."""
        height, width, _ = x.shape
        top, _, left, _ = operation.pads
        return cls(*(height, width, *operation.pool, *operation.strides, top, left))

    @property
    def size(self) -> int:
        """Pixels of a window."""
        return self.pool_height * self.pool_width


@numba.njit(inline="always")
def rows_of(windows: Any, y: int) -> tuple[int, int]:
    """The rows of the image in a window: the first one, and that after the last."""
    start = y * windows.stride_down - windows.pad_top
    return max(start, 0), min(start + windows.pool_height, windows.height)


@numba.njit(inline="always")
def columns_of(windows: Any, x: int) -> tuple[int, int]:
    """The columns of the image in a window: the first one, and that after the last."""
    start = x * windows.stride_across - windows.pad_left
    return max(start, 0), min(start + windows.pool_width, windows.width)


@numba.njit
def _pool_floats(begin: int, end: int, p: Any) -> None:
    windows, channels, pixel = p.windows, p.channels, 4 * p.channels
    height, width, directions = windows.height, windows.width, p.directions
    out = p.out + begin * p.columns * pixel
    for number in range(begin, end):
        s, y = number // p.rows, number % p.rows
        top, bottom = rows_of(windows, y)
        for x in range(p.columns):
            left, right = columns_of(windows, x)
            window = p.source + ((s * height + top) * width + left) * pixel
            down, tall, wide = width * pixel, bottom - top, right - left
            if p.mean:
                sum_window(window, down, pixel, tall, wide, directions, 0, 0, out, channels)
                sums = floats_at(out)
                for c in range(channels):
                    sums[c] /= np.float32(tall * wide)
            else:
                largest_of_window(
                    window, down, pixel, tall, wide, directions, 0, 0, out, channels
                )
            out += pixel


@numba.njit(inline="always")
def _pool_parts(
    begin: int, end: int, p: Any, source: Any, out: Any, inverted: Any, size: int
) -> None:
    """OR of `size` bytes, or words, of each pixel; `inverted` has the bits of AND."""
    windows, rows, columns = p.windows, p.rows, p.columns
    height, width = windows.height, windows.width
    for number in range(begin, end):
        s, y = number // rows, number % rows
        top, bottom = rows_of(windows, y)
        for x in range(columns):
            left, right = columns_of(windows, x)
            pixel = (number * columns + x) * size
            for part in range(size):
                # AND is the inverse of OR of inverses.
                bits = inverted[part] ^ inverted[part]
                for i in range(top, bottom):
                    row = ((s * height + i) * width + left) * size + part
                    for j in range(right - left):
                        bits |= source[row + j * size] ^ inverted[part]
                out[pixel + part] = bits ^ inverted[part]


@numba.njit
def _pool_bits(begin: int, end: int, p: Any) -> None:
    read, out, inverted, size = p.source, p.out, p.directions, p.channels
    if size % 4:
        source, mask = bytes_at(read), bytes_at(inverted)
        _pool_parts(begin, end, p, source, bytes_at(out), mask, size)
    else:
        words, masks = words_at(read), words_at(inverted)
        _pool_parts(begin, end, p, words, words_at(out), masks, size // 4)


@attrs.frozen(eq=False)
class Pool(Parameters):
    """The largest number of each window in the direction of its channel, or the mean.

    For signs as bits it is OR, and AND where the direction is -1.
    """

    source: Address
    windows: Windows
    channels: int  # or bytes of a pixel of bits
    out: Address
    rows: int  # of the result
    columns: int  # of the result
    directions: Address  # 1 or -1 for each channel; for bits, 1 for AND
    mean: bool
    bits: bool

    @classmethod
    def of(
        cls, source: Buffer, out: Buffer, operation: _Pool, x: Value, y: Value, bits: bool
    ) -> Pool:
        """The kernel for the operation that makes `x` to `y`."""
        channels, (rows, columns, _) = x.shape[-1], y.shape
        direction = getattr(operation, "direction", None)
        directions = np.ones(channels, np.int8) if direction is None else direction
        values: Any = directions.astype(np.float32)
        if bits:
            values = np.packbits(directions < 0, bitorder="little")
            channels = len(values)
        mean = isinstance(operation, operations.AveragePool)
        return cls(
            *(source, Windows.of(operation, x), channels, out, rows, columns),
            *(values, mean, bits),
        )

    @property
    def label(self) -> str:
        return f"pool of {'bits' if self.bits else 'floats'}"

    @property
    def parts(self) -> int:
        return self.rows

    @property
    def cost(self) -> float:
        return super().cost * (1 + self.windows.size / 4)

    @property
    def body(self) -> Any:
        return _pool_bits if self.bits else _pool_floats


@attrs.frozen(eq=False)
class Mean(Parameters):
    """The mean of each channel."""

    source: Address
    pixels: int  # of a sample
    channels: int
    out: Address

    @staticmethod
    @numba.njit
    def run(begin: int, end: int, p: Any) -> None:
        pixels, channels = p.pixels, p.channels
        for s in range(begin, end):
            sums = floats_at(p.out + 4 * s * channels)
            for c in range(channels):
                sums[c] = 0
            for i in range(pixels):
                pixel = floats_at(p.source + 4 * (s * pixels + i) * channels)
                for c in range(channels):
                    sums[c] += pixel[c]
            for c in range(channels):
                sums[c] /= np.float32(pixels)


@attrs.frozen(eq=False)
class Softmax(Parameters):
    """The softmax of each row."""

    source: Address
    rows: int  # of a sample
    channels: int
    out: Address

    @property
    def parts(self) -> int:
        return self.rows

    @staticmethod
    @numba.njit
    def run(begin: int, end: int, p: Any) -> None:
        channels = p.channels
        for i in range(begin, end):
            row = floats_at(p.source + 4 * i * channels)
            out = floats_at(p.out + 4 * i * channels)
            largest = row[0]
            for c in range(1, channels):
                largest = max(largest, row[c])
            total = np.float32(0)
            for c in range(channels):
                out[c] = np.exp(row[c] - largest)
                total += out[c]
            for c in range(channels):
                out[c] /= total
