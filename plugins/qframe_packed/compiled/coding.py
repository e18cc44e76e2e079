"""Codes: integers of at most 256 levels, a byte each, as stages and kernels write them."""

from __future__ import annotations

import math
from typing import Any

import attrs
import numba
from llvmlite import ir

from qframe.deployment.graph.values import Span, Value
from qframe_packed.compiled.addresses import bytes_at, floats_at
from qframe_packed.compiled.layout import Image
from qframe_packed.compiled.memory import Buffer
from qframe_packed.compiled.parameters import BYTES, Address, Parameters
from qframe_packed.compiled.vectors import (
    emitter,
    integer,
    load,
    over_channels,
    splat,
    store,
)

# The most integers that a code tells apart.
MOST_LEVELS = 2**8


def unit_of(span: Span) -> int:
    """The distance of two numbers whose codes are neighbours: ``low + unit * code``.

    It is 1 where codes have room for the integers in between, so that a step needs none in
    the weights, and these integers may be padding.
    """
    return 1 if span.high - span.low < MOST_LEVELS else span.step


@emitter
def _encode(b: Any, out: Any, numbers: Any, channels: Any, low: Any, scale: Any) -> None:
    """Write the codes of numbers, which are levels."""

    def body(kind: Any, index: Any) -> None:
        lowest, scales = splat(b, low, kind.count), splat(b, scale, kind.count)
        half = ir.Constant(kind, [0.5] * kind.count)
        x = load(b, kind, b.add(numbers, b.mul(index, integer(4))))
        places = b.fadd(b.fmul(b.fsub(x, lowest), scales), half)
        codes = b.fptosi(places, ir.VectorType(ir.IntType(32), kind.count))
        codes = b.trunc(codes, ir.VectorType(ir.IntType(8), kind.count))
        store(b, codes, b.add(out, index), align=1)

    over_channels(b, channels, body)


@numba.njit(inline="always")
def place_of(image: Any, pixel: int) -> int:
    """Bytes to a pixel of a batch in its image."""
    row, x = pixel // image.width, pixel % image.width
    down = row // image.height * image.rows + image.top + row % image.height
    return (down * image.columns + image.left + x) * image.pixel_bytes


@attrs.frozen(eq=False)
class Encode(Parameters):
    """A stage that writes numbers, which are levels, as the codes of an image."""

    out: Address
    image: Image
    low: float
    scale: float  # codes in 1.0

    @classmethod
    def of(cls, span: Span, image: Image, out: Buffer) -> Encode:
        """The stage for integers of a span."""
        return cls(out, image, span.low, 1 / unit_of(span))

    @staticmethod
    @numba.njit
    def run(values: int, width: int, first: int, size: int, channels: int, p: Any) -> None:
        for i in range(size):
            codes = p.out + place_of(p.image, first + i)
            _encode(codes, values + 4 * i * width, channels, p.low, p.scale)


@numba.njit
def _fill(out: int, count: int, code: int) -> None:
    filled = bytes_at(out)
    for i in range(count):
        filled[i] = code


@attrs.frozen(eq=False)
class Border(Parameters):
    """The padding of an image of codes."""

    image: Image
    out: Address
    pad: int  # a code

    @property
    def cost(self) -> float:
        image = self.image
        inside = image.height * image.width
        return (image.rows * image.columns - inside) * image.pixel_bytes / BYTES

    @staticmethod
    @numba.njit
    def run(begin: int, end: int, p: Any) -> None:
        image, code, size = p.image, p.pad, p.image.pixel_bytes
        row, before, inside = image.columns * size, image.left * size, image.width * size
        below = (image.top + image.height) * row
        for s in range(begin, end):
            out = p.out + s * image.rows * row
            _fill(out, image.top * row, code)
            for y in range(image.top, image.top + image.height):
                _fill(out + y * row, before, code)
                _fill(out + y * row + before + inside, row - before - inside, code)
            _fill(out + below, image.rows * row - below, code)


@attrs.frozen(eq=False)
class Inset(Parameters):
    """Codes inside of an image with padding."""

    source: Address
    image: Image
    out: Address

    @property
    def parts(self) -> int:
        return self.image.height

    @staticmethod
    @numba.njit
    def run(begin: int, end: int, p: Any) -> None:
        image, size = p.image, p.image.pixel_bytes
        length = image.width * size
        for number in range(begin, end):
            s, y = number // image.height, number % image.height
            row = (s * image.rows + image.top + y) * image.columns + image.left
            source = bytes_at(p.source + number * length)
            out = bytes_at(p.out + row * size)
            for i in range(length):
                out[i] = source[i]


@attrs.frozen(eq=False)
class Decode(Parameters):
    """Codes as floats."""

    source: Address
    count: int  # of a sample
    low: float
    unit: float
    out: Address

    @classmethod
    def of(cls, source: Buffer, value: Value, out: Buffer) -> Decode:
        """The kernel for a tensor."""
        span = value.span
        assert span is not None  # noqa: S101
        return cls(source, math.prod(value.shape), span.low, unit_of(span), out)

    @property
    def parts(self) -> int:
        return self.count

    @staticmethod
    @numba.njit
    def run(begin: int, end: int, p: Any) -> None:
        source, out, low, unit = bytes_at(p.source), floats_at(p.out), p.low, p.unit
        for i in range(begin, end):
            out[i] = low + unit * source[i]
