"""Stages of an epilogue that quantize: to levels as floats, or packed as bits."""

from __future__ import annotations

import functools
from typing import Any

import attrs
import numba
import numpy as np
from llvmlite import ir
from numpy.typing import NDArray

from qframe.deployment.graph.operations import Quantize, Round
from qframe_packed.compiled.addresses import floats_at
from qframe_packed.compiled.elementwise import row
from qframe_packed.compiled.layout import Bits
from qframe_packed.compiled.memory import Buffer, aligned
from qframe_packed.compiled.parameters import Address, Parameters
from qframe_packed.compiled.vectors import (
    LANES,
    emitter,
    integer,
    load,
    loop,
    over_channels,
    over_rows,
    splat,
    store,
    whole_vectors,
)

Array = NDArray[Any]
# The most levels between a threshold and its place among evenly spaced ones.
MOST_UNEVEN = 0.25
# A float to which a smaller number is added to be rounded: its last bit is worth 1.
_WHOLE = 1.5 * 2**23


@attrs.frozen(eq=False)
class Levels(Parameters):
    """A stage that replaces each number by its level, found by bisection."""

    thresholds: Address  # (threshold, channel)
    directions: Address  # 1 or -1 for each channel
    count: int  # thresholds of a channel
    low: float
    step: float

    @staticmethod
    @numba.njit
    def run(values: int, width: int, first: int, size: int, channels: int, p: Any) -> None:
        directions, count, low, step = floats_at(p.directions), p.count, p.low, p.step
        for i in range(size):
            numbers = floats_at(values + 4 * i * width)
            for c in range(channels):
                table = floats_at(p.thresholds + 4 * c)
                x = numbers[c] * directions[c]
                begin, end = 0, count
                while begin < end:
                    middle = (begin + end) // 2
                    if x >= table[middle * width]:
                        begin = middle + 1
                    else:
                        end = middle
                numbers[c] = low + step * begin


@attrs.frozen(eq=False)
class EvenLevels(Parameters):
    """A stage that replaces each number by its level, among evenly spaced thresholds."""

    thresholds: Address
    directions: Address
    count: int
    steepness: Address  # levels in 1.0, for each channel
    low: float
    step: float
    label = "even levels"

    @staticmethod
    @emitter
    def run(
        b: Any, values: Any, width: Any, first: Any, size: Any, channels: Any, p: Any
    ) -> None:
        stride, last = b.mul(width, integer(4)), b.sub(p.count, integer(1))
        tables, (low, step) = (p.thresholds, p.directions, p.steepness), (p.low, p.step)

        def body(kind: Any, index: Any) -> None:
            offset = b.mul(index, integer(4))
            begin, direction, steep = (load(b, kind, b.add(t, offset)) for t in tables)
            table = b.add(tables[0], offset)
            highest = b.sitofp(last, kind.element)
            highest, lows, steps = (splat(b, x, kind.count) for x in (highest, low, step))
            zeros = ir.Constant(kind, None)
            ahead = ir.Constant(kind, [1 - MOST_UNEVEN] * kind.count)

            def row(address: Any) -> None:
                x = b.fmul(load(b, kind, address), direction)
                # A guess that is right, or one too low. NaN becomes the lowest level.
                guess = b.fadd(b.fmul(b.fsub(x, begin), steep), ahead)
                guess = b.select(b.fcmp_ordered(">", guess, zeros), guess, zeros)
                guess = b.select(b.fcmp_ordered("<", guess, highest), guess, highest)
                level = b.fptosi(guess, ir.VectorType(ir.IntType(64), kind.count))
                edges = zeros
                for lane in range(kind.count):
                    place = ir.Constant(ir.IntType(32), lane)
                    edge = b.mul(b.extract_element(level, place), stride)
                    edge = b.add(b.add(table, edge), integer(4 * lane))
                    edges = b.insert_element(edges, load(b, kind.element, edge), place)
                more = b.uitofp(b.fcmp_ordered(">=", x, edges), kind)
                level = b.fadd(b.sitofp(level, kind), more)
                store(b, b.fadd(lows, b.fmul(steps, level)), address)

            over_rows(b, size, (b.add(values, offset),), (stride,), row)

        over_channels(b, whole_vectors(b, channels), body, LANES)


@attrs.frozen(eq=False)
class Nearest(Parameters):
    """A stage that rounds to the nearest level."""

    factor: float
    divisor: float
    low: float
    high: float

    @classmethod
    def of(cls, operation: Round) -> Nearest:
        """The stage for an operation."""
        ends = operation.low, operation.high
        return cls(operation.factor, operation.divisor, *ends)

    @staticmethod
    @emitter
    def run(
        b: Any, values: Any, width: Any, first: Any, size: Any, channels: Any, p: Any
    ) -> None:
        stride, numbers = b.mul(width, integer(4)), (p.factor, p.divisor, p.low, p.high)

        def body(divides: bool, kind: Any, index: Any) -> None:
            factor, divisor, low, high = (splat(b, x, kind.count) for x in numbers)
            whole = ir.Constant(kind, [_WHOLE] * kind.count)

            def row(address: Any) -> None:
                x = b.fmul(load(b, kind, address), factor)
                x = b.fdiv(x, divisor) if divides else x
                # NaN becomes the lowest level.
                x = b.select(b.fcmp_ordered(">", x, low), x, low)
                x = b.select(b.fcmp_ordered("<", x, high), x, high)
                store(b, b.fsub(b.fadd(x, whole), whole), address)

            start = b.add(values, b.mul(index, integer(4)))
            over_rows(b, size, (start,), (stride,), row)

        room, one = whole_vectors(b, channels), ir.Constant(ir.FloatType(), 1)
        with b.if_else(b.fcmp_unordered("!=", p.divisor, one)) as branches:
            for divides, branch in zip((True, False), branches, strict=True):
                with branch:
                    over_channels(b, room, functools.partial(body, divides), LANES)


@attrs.frozen(eq=False)
class Pack(Parameters):
    """A stage that writes the level of each number as bits (pixel, plane, byte)."""

    thresholds: Address
    directions: Address
    count: int
    out: Address
    planes: int
    plane_bytes: int  # of a pixel

    @classmethod
    def of(cls, quantize: Quantize, width: int, out: Buffer, bits: Bits) -> Pack:
        """The stage for a quantizer, in rows of `width`."""
        table = _table(quantize, bits.channels, width)
        return cls(*table, out, bits.planes, bits.plane_bytes)

    @staticmethod
    @emitter
    def run(
        b: Any, values: Any, width: Any, first: Any, size: Any, channels: Any, p: Any
    ) -> None:
        stride, count, planes = b.mul(width, integer(4)), p.count, p.planes
        thresholds, directions, plane_bytes = p.thresholds, p.directions, p.plane_bytes
        pixel_bytes = b.mul(planes, plane_bytes)
        out = b.add(p.out, b.mul(first, pixel_bytes))

        def write(bits: Any, address: Any) -> None:
            store(b, b.bitcast(bits, ir.IntType(bits.type.count)), address, align=1)

        def body(one: bool, kind: Any, index: Any) -> None:
            offset = b.mul(index, integer(4))
            edges = b.add(thresholds, offset)
            edge, direction = load(b, kind, edges), load(b, kind, b.add(directions, offset))
            numbers = ir.VectorType(ir.IntType(32), kind.count)
            zeros, ones = ir.Constant(numbers, None), ir.Constant(numbers, [1] * kind.count)

            def row(x: Any, address: Any) -> None:
                directed = b.fmul(load(b, kind, x), direction)
                if one:
                    write(b.fcmp_ordered(">=", directed, edge), address)
                    return

                def compare(index: Any, edge: Any, level: Any) -> tuple[Any, ...]:
                    reached = b.fcmp_ordered(">=", directed, load(b, kind, edge))
                    return b.add(edge, stride), b.add(level, b.zext(reached, numbers))

                def plane(index: Any, address: Any, level: Any) -> tuple[Any, ...]:
                    write(b.trunc(level, ir.VectorType(ir.IntType(1), kind.count)), address)
                    return b.add(address, plane_bytes), b.lshr(level, ones)

                _, level = loop(b, integer(0), count, 1, (edges, zeros), compare)
                loop(b, integer(0), planes, 1, (address, level), plane)

            starts = b.add(values, offset), b.add(out, b.lshr(index, integer(3)))
            over_rows(b, size, starts, (stride, pixel_bytes), row)

        room = whole_vectors(b, channels)
        with b.if_else(b.icmp_signed("==", count, integer(1))) as branches:
            for one, branch in zip((True, False), branches, strict=True):
                with branch:
                    over_channels(b, room, functools.partial(body, one), LANES)


def levels_of(quantize: Quantize, channels: int, width: int) -> Parameters:
    """The stage for a quantizer that returns floats, in rows of `width`."""
    thresholds, directions, count = _table(quantize, channels, width)
    steepness = _steepness(thresholds[:, :channels], width)
    ends = quantize.low, quantize.step
    if steepness is None:
        return Levels(thresholds, directions, count, *ends)
    return EvenLevels(thresholds, directions, count, steepness, *ends)


def _steepness(thresholds: Array, width: int) -> Array | None:
    """The levels in 1.0, where thresholds are near evenly spaced ones."""
    if len(thresholds) == 1:
        return None
    with np.errstate(all="ignore"):
        distance = thresholds - thresholds[0]
        steepness = np.float32(len(thresholds) - 1) / distance[-1]
        uneven = np.abs(distance * steepness - np.arange(len(thresholds))[:, None])
    # NaN, from infinite thresholds, is not even. Half of the room is for rounding.
    even = (uneven <= MOST_UNEVEN / 2).all() and (steepness > 0).all()
    return row(steepness, width) if even and np.isfinite(steepness).all() else None


def _table(quantize: Quantize, channels: int, width: int) -> tuple[Array, Array, int]:
    """Thresholds and directions, padded to whole vectors, and the number of thresholds."""
    thresholds = quantize.thresholds.astype(np.float32)
    padded = aligned((len(thresholds), width), np.float32)
    # No number reaches NaN, infinity neither, so the bits of the padding are 0.
    padded[:] = np.nan
    padded[:, :channels] = thresholds if thresholds.ndim == 2 else thresholds[:, None]
    return padded, row(quantize.direction, width, 1), len(thresholds)
