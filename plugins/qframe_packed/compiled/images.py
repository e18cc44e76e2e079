"""Tensors in another form: with padding, as items, as floats."""

from __future__ import annotations

from typing import Any

import numba

from qframe_packed.compiled.addresses import bytes_at, floats_at
from qframe_packed.compiled.vectors import copy


@numba.njit(nogil=True)
def _fill(to: int, source: int, size: int, count: int) -> None:
    """Write some bytes again and again."""
    given = bytes_at(source)
    for i in range(count):
        out = bytes_at(to + i * size)
        for j in range(size):
            out[j] = given[j]


@numba.njit(nogil=True)
def spread(samples: int, p: Any) -> None:
    """Bits (row, column, plane, byte) as the items of an image (plane, row, column, item).

    `p`: source, rows, columns, planes, bytes of a plane; image, its rows and columns, bytes
    of a pixel, top, left; the pixel that surrounds each plane, or 0; whether an item is 4
    bits, in the upper half of a byte.
    """
    source, height, width, planes, plane = p[0], p[1], p[2], p[3], p[4]
    image, rows, columns, size, top, left = p[5], p[6], p[7], p[8], p[9], p[10]
    around, lookup = p[11], p[12]
    for s in range(samples):
        for q in range(planes):
            to = image + (s * planes + q) * rows * columns * size
            if around:
                _fill(to, around + q * size, size, rows * columns)
            for y in range(height):
                row = to + ((top + y) * columns + left) * size
                at = source + ((s * height + y) * width * planes + q) * plane
                for x in range(width):
                    given = bytes_at(at + x * planes * plane)
                    out = bytes_at(row + x * size)
                    if lookup:
                        for i in range(plane):
                            out[2 * i] = given[i] << 4
                            out[2 * i + 1] = given[i] & 0xF0
                    else:
                        for i in range(plane):
                            out[i] = given[i]


@numba.njit(nogil=True)
def surround(samples: int, p: Any) -> None:
    """Floats with a number around them.

    `p`: source, rows, floats of a row; image, its rows and the floats of one, top, floats
    before a row; the address of the number.
    """
    source, height, length = p[0], p[1], p[2]
    image, rows, row, top, left = p[3], p[4], p[5], p[6], p[7]
    number = floats_at(p[8])[0]
    out = floats_at(image)
    for i in range(samples * rows * row):
        out[i] = number
    for s in range(samples):
        for y in range(height):
            to = image + 4 * ((s * rows + top + y) * row + left)
            copy(to, source + 4 * (s * height + y) * length, length)


@numba.njit(nogil=True)
def unpack(samples: int, p: Any) -> None:
    """Bits as floats.

    `p`: source, pixels of a sample, planes, bytes of a plane, channels; out; the address of
    the lowest number and the step.
    """
    source, planes, plane, channels = p[0], p[2], p[3], p[4]
    low, step = floats_at(p[6])[0], floats_at(p[6])[1]
    for i in range(samples * p[1]):
        given = bytes_at(source + i * planes * plane)
        out = floats_at(p[5] + 4 * i * channels)
        for c in range(channels):
            code = 0
            for q in range(planes):
                code |= ((given[q * plane + (c >> 3)] >> (c & 7)) & 1) << q
            out[c] = low + step * code
