"""What is done to each channel by itself: depthwise products, pooling; and softmax."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from qframe_packed.compiled.addresses import bytes_at, floats_at, words_at
from qframe_packed.compiled.reductions import most_of_window, sum_window


@numba.njit(nogil=True)
def depthwise(samples: int, p: Any) -> None:
    """Products of each channel with a kernel of its own.

    `p`: image, its rows and columns, channels; kernel (row, column, channel), its rows and
    columns; strides (2), dilation (2); out, its rows and columns.
    """
    image, rows, columns, pixel = p[0], p[1], p[2], 4 * p[3]
    kernel, taps, across, out, height, width = p[4], p[5], p[6], p[11], p[12], p[13]
    for s in range(samples):
        for y in range(height):
            for x in range(width):
                at = image + ((s * rows + y * p[7]) * columns + x * p[8]) * pixel
                sum_window(
                    at,
                    p[9] * columns * pixel,
                    p[10] * pixel,
                    taps,
                    across,
                    kernel,
                    across * pixel,
                    pixel,
                    out,
                    p[3],
                )
                out += pixel


@numba.njit(nogil=True)
def _ends(place: int, stride: int, before: int, pool: int, size: int) -> tuple[int, int]:
    """The first of a window, and the one after its last, that are in the image."""
    start = place * stride - before
    return max(start, 0), min(start + pool, size)


@numba.njit(nogil=True)
def pool_floats(samples: int, p: Any) -> None:
    """The largest number of each window in the direction of its channel, or the mean.

    `p`: source, rows, columns, channels; pool (2), strides (2), padding at the top and at
    the left; out, its rows and columns; directions; whether it is the mean.
    """
    source, height, width, channels, pixel = p[0], p[1], p[2], p[3], 4 * p[3]
    out, rows, columns, directions = p[10], p[11], p[12], p[13]
    mean = p[14]
    for s in range(samples):
        for y in range(rows):
            first, last = _ends(y, p[6], p[8], p[4], height)
            for x in range(columns):
                left, right = _ends(x, p[7], p[9], p[5], width)
                at = source + ((s * height + first) * width + left) * pixel
                down, tall, wide = width * pixel, last - first, right - left
                if mean:
                    sum_window(at, down, pixel, tall, wide, directions, 0, 0, out, channels)
                    found = floats_at(out)
                    for c in range(channels):
                        found[c] /= np.float32(tall * wide)
                else:
                    most_of_window(
                        at, down, pixel, tall, wide, directions, 0, 0, out, channels
                    )
                out += pixel


@numba.njit(nogil=True)
def _pool(samples: int, p: Any, source: Any, out: Any, turned: Any, size: int) -> None:
    height, width, rows, columns = p[1], p[2], p[11], p[12]
    for s in range(samples):
        for y in range(rows):
            first, last = _ends(y, p[6], p[8], p[4], height)
            for x in range(columns):
                left, right = _ends(x, p[7], p[9], p[5], width)
                to = ((s * rows + y) * columns + x) * size
                for part in range(size):
                    # AND is OR of what is not, and not that.
                    found = turned[part] ^ turned[part]
                    for i in range(first, last):
                        at = ((s * height + i) * width + left) * size + part
                        for j in range(right - left):
                            found |= source[at + j * size] ^ turned[part]
                    out[to + part] = found ^ turned[part]


@numba.njit(nogil=True)
def pool_bits(samples: int, p: Any) -> None:
    """OR of the bits of each window, or AND.

    `p` is that of `pool_floats`, with bytes for channels, and in the place of directions
    the bits that are set for AND.
    """
    if p[3] % 4:
        _pool(samples, p, bytes_at(p[0]), bytes_at(p[10]), bytes_at(p[13]), p[3])
    else:
        _pool(samples, p, words_at(p[0]), words_at(p[10]), words_at(p[13]), p[3] // 4)


@numba.njit(nogil=True)
def mean(samples: int, p: Any) -> None:
    """The mean of each channel. `p`: source, pixels of a sample, channels; out."""
    source, pixels, channels, out = p[0], p[1], p[2], p[3]
    for s in range(samples):
        sums = floats_at(out + 4 * s * channels)
        for c in range(channels):
            sums[c] = 0
        for i in range(pixels):
            pixel = floats_at(source + 4 * (s * pixels + i) * channels)
            for c in range(channels):
                sums[c] += pixel[c]
        for c in range(channels):
            sums[c] /= np.float32(pixels)


@numba.njit(nogil=True)
def softmax(samples: int, p: Any) -> None:
    """The softmax of each row. `p`: source, rows of a sample, channels; out."""
    channels = p[2]
    for i in range(samples * p[1]):
        row, out = floats_at(p[0] + 4 * i * channels), floats_at(p[3] + 4 * i * channels)
        most = row[0]
        for c in range(1, channels):
            most = max(most, row[c])
        total = np.float32(0)
        for c in range(channels):
            out[c] = np.exp(row[c] - most)
            total += out[c]
        for c in range(channels):
            out[c] /= total
