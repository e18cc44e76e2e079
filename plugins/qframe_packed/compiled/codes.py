"""Operands of products of codes, u8, with weights of 2 to 8 bits.

An integer is ``low + unit * code``. The sum of the products with `low` is in the integers
from which sums start, and the weights are multiplied by `unit`. An item is 4 bytes of the
image that follow one another: of a row of the window, or else of a pixel.

Weights of 4 and 2 bits stay packed where to read them takes longer than to multiply by
them: where a sample has one pixel, as in most dense layers, or where bytes would be more
than the second level of the cache holds. Elsewhere they are bytes.
"""

from __future__ import annotations

import math
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from qframe.deployment.graph import operations
from qframe.deployment.graph.values import Grid, Span, Value
from qframe_packed.compiled.coding import MOST_LEVELS, unit_of
from qframe_packed.compiled.dots import Packed
from qframe_packed.compiled.kinds import Kind
from qframe_packed.compiled.layout import Image
from qframe_packed.compiled.panels import (
    Operands,
    offsets_of,
    one_class,
    operands,
    windows_of,
)
from qframe_packed.compiled.tiles import CODES, NARROW, PACKED

Array = NDArray[Any]
_ITEM = 4
# Bytes of weights that do not stay in the cache.
_FAR = 2**20


def fits(conv: Any, span: Span) -> bool:
    """Return whether codes and weights of 8 bits hold the factors of a product."""
    weights, unit = conv.kernel.span, unit_of(span)
    ends = weights.low * unit, weights.high * unit
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
    code, rest = divmod(int(conv.pad) - span.low, unit_of(span))
    return code if not rest and 0 <= code < MOST_LEVELS else None


def starts_of(sums: Array, span: Span) -> Array:
    """The int32 from which the products of each channel start, from its sum of weights."""
    # They wrap around, as sums of 32 bits do.
    return ((span.low + CODES.bias * unit_of(span)) * sums).astype(np.int32)


def of_codes(conv: operations.Conv2D, shape: tuple[int, ...], span: Span) -> Operands:
    """Operands of a product of integers that `fits` codes."""
    integers = conv.kernel.integers().reshape(conv.kernel.shape[0], -1)
    image = Image.of_codes(shape, conv.pads)
    places, offsets = _items(offsets_of(conv, image, conv.kernel.shape[-1]))
    kind = _kind(conv, shape, span)
    # Items that fill a register of weights have none.
    offsets = np.append(offsets, offsets[-1:].repeat(-len(offsets) % kind.sharing))
    weights = np.zeros((len(integers), _ITEM * len(offsets)), np.int8)
    weights[:, places] = integers * unit_of(span)
    starts = starts_of(integers.sum(axis=1, dtype=np.int64), span)
    if isinstance(kind, Packed):
        weights, starts = _packed(weights, kind), starts * kind.times
    pad = pad_of(conv, span)
    assert pad is not None  # noqa: S101
    if kind is CODES and NARROW and NARROW.holds(weights, max(span.count - 1, pad)):
        kind = NARROW
    return operands(
        *(conv, kind, image, pad, windows_of(conv, shape, image), offsets),
        weights.view(np.uint32)[None],
        conv.kernel.shape[-1],
        *(np.ones((1, 1)), starts[None], one_class(conv, shape)),
    )


def _kind(conv: operations.Conv2D, shape: tuple[int, ...], span: Span) -> Kind:
    """The kind of tiles that is the quickest for the weights of a product."""
    sums, weights = conv.infer(Value(shape, Grid(**attrs.asdict(span)))), conv.kernel.span
    if math.prod(sums.shape[:2]) > 1 and math.prod(conv.kernel.shape) <= _FAR:
        return CODES
    assert sums.span is not None  # noqa: S101
    largest, unit = max(abs(sums.span.low), abs(sums.span.high)), unit_of(span)
    for kind in PACKED:
        most = 2 ** (kind.weight_bits - 1)
        fit = -most <= unit * weights.low and unit * weights.high < most
        if fit and kind.times * largest < 2**31:
            return kind
    return CODES


def _packed(weights: Array, kind: Packed) -> Array:
    """Weights (output, byte) with the bits of several items in each byte."""
    items = weights.reshape(len(weights), -1, kind.sharing, _ITEM).view(np.uint8)
    places = kind.weight_bits * np.arange(kind.sharing, dtype=np.uint8)[:, None]
    parts = (items & np.uint8(2**kind.weight_bits - 1)) << places
    return np.bitwise_or.reduce(parts, axis=2).reshape(len(weights), -1)


def _items(offsets: Array) -> tuple[Array, Array]:
    """Items of bytes at ascending offsets: the place of each byte, and their offsets."""
    numbers = np.arange(len(offsets))
    begins = np.flatnonzero(np.diff(offsets, prepend=-2) != 1)
    run = np.searchsorted(begins, numbers, "right") - 1
    counts = -(-np.diff(begins, append=len(offsets)) // _ITEM)
    inside = numbers - begins[run]
    places = _ITEM * (np.cumsum(counts) - counts)[run] + inside
    return places, offsets[inside % _ITEM == 0]
