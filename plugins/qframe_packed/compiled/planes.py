"""Operands of products of a few bits: sums of products of planes of bits.

An integer with the code c is ``middle + sum(a_i * s_i)``, where s_i is 1 or -1 for each bit
of c. So products of integers are sums of products of bits, which are counts of bits that
differ. The constant part is in the numbers from which sums start.
"""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from qframe.deployment.graph import operations
from qframe.deployment.graph.values import Span, Value
from qframe_packed.compiled.layout import HALVES, Image, items_of
from qframe_packed.compiled.panels import Operands, offsets_of, operands, windows_of
from qframe_packed.compiled.tiles import BITS

Array = NDArray[Any]


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
        if _is_symmetric(span):
            # With equal weights the middle is 0, which saves a plane.
            half = span.step / 2
            return cls(0.0, (half, half), np.stack([codes > 0, codes > 1]))
        planes = range(span.bits)
        bits = np.stack([(codes >> plane) & 1 for plane in planes]).astype(bool)
        return cls(*_scale(span), bits)


def _is_symmetric(span: Span) -> bool:
    """Return whether the integers are 0, and one on either side of it."""
    return span.count == 3 and span.low + span.step == 0


def _scale(span: Span) -> tuple[float, tuple[float, ...]]:
    """The middle of the codes of a span, and the weight of each bit."""
    weights = tuple(span.step * 2.0**plane / 2 for plane in range(span.bits))
    return span.low + sum(weights), weights


def planes_of(span: Span) -> int:
    """The planes of weights with these integers, that of their middle included."""
    return span.bits + (not _is_symmetric(span) and _scale(span)[0] != 0)


def of_bits(conv: operations.Conv2D, shape: tuple[int, ...], span: Span) -> Operands:
    """Operands of a product of integers of these spans, as planes of bits."""
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
    items = _items(weights)
    return operands(
        *(conv, BITS, image, pad, windows_of(conv, shape, image)),
        offsets_of(conv, image, items.shape[-1]),
        items.reshape(*items.shape[:2], -1),
        items.shape[-1] * items.itemsize,
        *(factors, starts.astype(np.float32), classes),
    )


def _items(bits: Array) -> Array:
    """Bits (..., channel) as items of weights."""
    room = items_of(bits.shape[-1]) * BITS.bits - bits.shape[-1]
    wide = np.pad(bits, [(0, 0)] * (bits.ndim - 1) + [(0, room)])
    packed = np.packbits(wide, axis=-1, bitorder="little")
    if not HALVES:
        return packed.view(BITS.item)
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
