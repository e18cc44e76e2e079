"""Products of images with weights, and what follows them."""

from __future__ import annotations

from typing import Any

import numba

from qframe_packed.compiled.addresses import floats_at, integers_at
from qframe_packed.compiled.chains import INTEGERS, Code, follow
from qframe_packed.compiled.tiles import add_products
from qframe_packed.compiled.vectors import copy


@numba.njit(nogil=True)
def multiply(samples: int, p: Any) -> None:
    """Products, a few pixels at a time, each time with the whole chain.

    `p` holds, in order: the address of the image, the bytes of a sample and of a plane; the
    places, and how many; the items, and how many; the weights, the bytes of a plane and of
    a block; blocks, columns, shifts; factors, planes of the image, planes of the weights;
    starts, classes; the number of the tile and its pixels; room for floats, for addresses,
    its pixels and the floats of one; channels; the chain (2).
    """
    image, sample_bytes, plane_bytes = p[0], p[1], p[2]
    places, count, items, length = integers_at(p[3]), p[4], p[5], p[6]
    weights, weight_plane, weight_block = p[7], p[8], p[9]
    blocks, columns, shifts = p[10], integers_at(p[11]), integers_at(p[12])
    factors, planes, digits = floats_at(p[13]), p[14], p[15]
    starts, classes = p[16], integers_at(p[17])
    tile, pixels = p[18], p[19]
    values, addresses, most, width = p[20], p[21], p[22], p[23]
    # Of each pixel at hand: its window in the image, what it starts from, and its sums.
    begins, origins, sums = addresses, addresses + 8 * most, addresses + 16 * most
    for i in range(most):
        integers_at(sums)[i] = values + 4 * i * width
    total = samples * count
    for first in range(0, total, most):
        size = min(most, total - first)
        sample, place = first // count, first % count
        for i in range(size):
            integers_at(begins)[i] = image + sample * sample_bytes + places[place]
            integers_at(origins)[i] = starts + 4 * classes[place] * width
            place += 1
            if place == count:
                sample, place = sample + 1, 0
        # A tile that is not full does the last pixel again, for nothing.
        for i in range(size, min(most, size + pixels - 1)):
            integers_at(begins)[i] = integers_at(begins)[size - 1]
            integers_at(origins)[i] = integers_at(origins)[size - 1]
        for block in range(blocks):
            column = 4 * columns[block]
            for plane in range(planes):
                for digit in range(digits):
                    before = sums if plane + digit else origins
                    for i in range(0, size, pixels):
                        add_products(
                            tile,
                            shifts[block] + plane * plane_bytes,
                            begins + 8 * i,
                            weights + digit * weight_plane + block * weight_block,
                            items,
                            length,
                            before + 8 * i,
                            column,
                            values + 4 * i * width + column,
                            4 * width,
                            factors[plane * digits + digit],
                        )
        follow(values, width, first, size, p[24], integers_at(p[25]))


@numba.njit(nogil=True)
def change(samples: int, p: Any) -> None:
    """A chain alone.

    `p`: source, pixels of a sample, channels; room for floats, its pixels and the floats of
    one; the chain (2).
    """
    source, channels, values, most, width = p[0], p[2], p[3], p[4], p[5]
    chain = integers_at(p[6])
    # Other steps may read the source again, so that only a chain that reads works on it.
    direct = channels == width
    for index in range(chain[1]):
        code = integers_at(chain[0] + 8 * INTEGERS * index)[0]
        direct &= code == Code.STORE or code == Code.PLANES
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
