"""Operands of products of codes, u8, with weights of 8 bits.

An integer is ``low + step * code``. The sum of the products with `low` is in the integers
from which sums start, and the weights are multiplied by `step`. An item is 4 bytes of the
image that follow one another: of a row of the window, or else of a pixel.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from qframe.deployment.graph import operations
from qframe.deployment.graph.values import Span
from qframe_packed.compiled.layout import Image
from qframe_packed.compiled.panels import (
    Operands,
    offsets_of,
    one_class,
    operands,
    windows_of,
)
from qframe_packed.compiled.tiles import CODES

Array = NDArray[Any]
_ITEM = 4
# The most integers that a code tells apart.
MOST_LEVELS = 2**8


def fits(conv: Any, span: Span) -> bool:
    """Return whether codes and weights of 8 bits hold the factors of a product."""
    weights = conv.kernel.span
    ends = weights.low * span.step, weights.high * span.step
    return (
        span.count <= MOST_LEVELS
        and min(ends) >= -(2**7)
        and max(ends) < 2**7
        and pad_of(conv, span) is not None
    )


def pad_of(conv: Any, span: Span) -> int | None:
    """The code of the padding; None if it has none."""
    if not any(getattr(conv, "pads", ())):
        return 0
    code, rest = divmod(int(conv.pad) - span.low, span.step)
    return code if not rest and 0 <= code < MOST_LEVELS else None


def starts_of(sums: Array, span: Span) -> Array:
    """The int32 from which the products of each channel start, from its sum of weights."""
    # They wrap around, as sums of 32 bits do.
    return ((span.low + CODES.bias * span.step) * sums).astype(np.int32)


def of_codes(conv: operations.Conv2D, shape: tuple[int, ...], span: Span) -> Operands:
    """Operands of a product of integers that `fits` codes."""
    integers = conv.kernel.integers().reshape(conv.kernel.shape[0], -1)
    image = Image.of_codes(shape, conv.pads)
    places, offsets = _items(offsets_of(conv, image, conv.kernel.shape[-1]))
    weights = np.zeros((len(integers), _ITEM * len(offsets)), np.int8)
    weights[:, places] = integers * span.step
    starts = starts_of(integers.sum(axis=1, dtype=np.int64), span)
    pad = pad_of(conv, span)
    assert pad is not None  # noqa: S101
    return operands(
        *(conv, CODES, image, pad, windows_of(conv, shape, image), offsets),
        weights.view(np.uint32)[None],
        conv.kernel.shape[-1],
        *(np.ones((1, 1)), starts[None], one_class(conv, shape)),
    )


def _items(offsets: Array) -> tuple[Array, Array]:
    """Items of bytes at ascending offsets: the place of each byte, and their offsets."""
    numbers = np.arange(len(offsets))
    begins = np.flatnonzero(np.diff(offsets, prepend=-2) != 1)
    run = np.searchsorted(begins, numbers, "right") - 1
    counts = -(-np.diff(begins, append=len(offsets)) // _ITEM)
    inside = numbers - begins[run]
    places = _ITEM * (np.cumsum(counts) - counts)[run] + inside
    return places, offsets[inside % _ITEM == 0]
