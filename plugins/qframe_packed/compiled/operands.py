"""Operands of matrix products, from convolutions and dense layers: the kind of each."""

from __future__ import annotations

import math
from typing import Any

import attrs
import numpy as np

from qframe.deployment.graph import operations
from qframe.deployment.graph.values import Span, Value
from qframe_packed.compiled.codes import fits, of_codes
from qframe_packed.compiled.kinds import Kind
from qframe_packed.compiled.layout import Image
from qframe_packed.compiled.panels import (
    Operands,
    offsets_of,
    one_class,
    operands,
    windows_of,
)
from qframe_packed.compiled.planes import of_bits, planes_of
from qframe_packed.compiled.tiles import BITS, CODES, FLOATS, ITEM_BYTES, MOST_PRODUCTS
from qframe_packed.packing import MOST_PLANES, PackedTensor

# Sums below it are exact in float32, the halves of bits included.
_EXACT = 2**20
# The most bits of a sum, which 16-bit numbers count.
_MOST_BITS = 2**16 - 1


def kind_of(operation: Any, x: Value) -> Kind | None:
    """The kind of tiles of a product; None where none is exact."""
    kernel = operation.kernel
    if x.span is None or not isinstance(kernel, PackedTensor):
        return FLOATS
    groups = getattr(operation, "groups", 1)
    largest = _largest(operation.infer(x).span)
    few = max(x.span.bits, kernel.span.bits) <= MOST_PLANES
    # The bits of a group begin where an item does.
    whole = groups == 1 or not kernel.shape[-1] % (8 * ITEM_BYTES)
    small = math.prod(kernel.shape[1:]) <= _MOST_BITS and largest < _EXACT
    bits, codes = few and whole and small, fits(operation, x.span)
    if bits and not (codes and x.span.bits * planes_of(kernel.span) > MOST_PRODUCTS):
        return BITS
    if codes:
        return CODES
    return FLOATS if largest < 16 * _EXACT else None


def operands_of(operation: Any, x: Value) -> Operands | None:
    """Operands of a convolution or dense layer; None where no kind is exact."""
    kind = kind_of(operation, x)
    conv = operation if isinstance(operation, operations.Conv2D) else _as_conv(operation)
    shape = x.shape if conv is operation else (math.prod(x.shape[:-1]), 1, x.shape[-1])
    if kind is None:
        return None
    if x.span is None or kind is FLOATS:
        return _of_floats(conv, shape)
    return (of_bits if kind is BITS else of_codes)(conv, shape, x.span)


def _as_conv(operation: operations.Dense) -> operations.Conv2D:
    kernel = operation.kernel
    shape = (kernel.shape[0], 1, 1, kernel.shape[1])
    if isinstance(kernel, PackedTensor):
        return operations.Conv2D(kernel=attrs.evolve(kernel, shape=shape))
    return operations.Conv2D(kernel=kernel.reshape(shape))


def _largest(span: Span | None) -> int:
    assert span is not None  # noqa: S101
    return max(abs(span.low), abs(span.high))


def _of_floats(conv: operations.Conv2D, shape: tuple[int, ...]) -> Operands:
    kernel = conv.kernel
    numbers = kernel.integers() if isinstance(kernel, PackedTensor) else kernel
    image = Image.of(shape, conv.pads)
    items = numbers.astype(np.float32).reshape(1, len(numbers), -1)
    return operands(
        *(conv, FLOATS, image, conv.pad, windows_of(conv, shape, image)),
        offsets_of(conv, image, numbers.shape[-1]),
        *(items, numbers.shape[-1] * items.itemsize),
        *(np.ones((1, 1)), np.zeros((1, len(numbers)), np.float32)),
        one_class(conv, shape),
    )
