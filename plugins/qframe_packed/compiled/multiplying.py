"""Products of images with weights, and what follows them."""

from __future__ import annotations

from typing import Any

import numba

from qframe_packed.compiled.addresses import floats_at, integers_at
from qframe_packed.compiled.chains import INTEGERS, Code, follow
from qframe_packed.compiled.tiles import add_products
from qframe_packed.compiled.vectors import copy


@numba.njit(nogil=True, cache=True)
def multiply(samples: int, p: Any) -> None:
    """Products, a few pixels at a time, each time with the whole chain.

    `p` holds, in order: the address of the image, the bytes of a sample and of a plane; the
    places, and how many; the items, and how many; the weights, the bytes of a plane and of
    a block; blocks, columns, shifts; factors, planes of the image, planes of the weights;
    starts, classes; the number of the tile and its pixels; room for floats, for places, its
    pixels and the floats of one; channels; the chain (2).
    """
    image, sample_bytes, plane_bytes = p[0], p[1], p[2]
    places, count, items, length = integers_at(p[3]), p[4], p[5], p[6]
    weights, weight_plane, weight_block = p[7], p[8], p[9]
    blocks, columns, shifts = p[10], integers_at(p[11]), integers_at(p[12])
    factors, planes, digits = floats_at(p[13]), p[14], p[15]
    starts, classes = p[16], integers_at(p[17])
    tile, pixels = p[18], p[19]
    values, offsets, most, width = p[20], p[21], p[22], p[23]
    begins = integers_at(offsets)
    total = samples * count
    for first in range(0, total, most):
        size = min(most, total - first)
        sample, place = first // count, first % count
        for i in range(size):
            begins[i] = image + sample * sample_bytes + places[place]
            copy(values + 4 * i * width, starts + 4 * classes[place] * width, width)
            place += 1
            if place == count:
                sample, place = sample + 1, 0
        # A tile that is not full does the last pixel again, for nothing.
        for i in range(size, min(most, size + pixels - 1)):
            begins[i] = begins[size - 1]
        for block in range(blocks):
            if block > 0 and shifts[block] != shifts[block - 1]:
                # A tile of the group before wrote beyond it: zeros, or NaN where what it
                # read was not finite.
                at = columns[block]
                beyond = columns[block - 1] + width - columns[blocks - 1] - at
                for i in range(size):
                    start = starts + 4 * classes[(first + i) % count] * width
                    copy(values + 4 * (i * width + at), start + 4 * at, beyond)
            for plane in range(planes):
                for digit in range(digits):
                    for i in range(0, size, pixels):
                        add_products(
                            tile,
                            shifts[block] + plane * plane_bytes,
                            offsets + 8 * i,
                            weights + digit * weight_plane + block * weight_block,
                            items,
                            length,
                            values + 4 * (i * width + columns[block]),
                            4 * width,
                            factors[plane * digits + digit],
                        )
        follow(values, width, first, size, p[24], integers_at(p[25]))


@numba.njit(nogil=True, cache=True)
def change(samples: int, p: Any) -> None:
    """A chain alone.

    `p`: source, pixels of a sample, channels; room for floats, its pixels and the floats of
    one; the chain (2).
    """
    source, channels, values, most, width = p[0], p[2], p[3], p[4], p[5]
    chain = integers_at(p[6])
    # What changes no number can read them where they are.
    direct = channels == width
    for index in range(chain[1]):
        direct &= integers_at(chain[0] + 8 * INTEGERS * index)[0] >= Code.STORE
    total = samples * p[1]
    for first in range(0, total, most):
        size = min(most, total - first)
        at = source + 4 * first * channels
        if direct:
            follow(at, width, first, size, channels, chain)
            continue
        for i in range(size):
            copy(values + 4 * i * width, at + 4 * i * channels, channels)
        follow(values, width, first, size, channels, chain)
