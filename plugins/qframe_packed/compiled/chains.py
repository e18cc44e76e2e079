"""What follows products, on a few pixels at a time, while they are near: a small program.

A step of it is a row of integers: a code, addresses, sizes. The values of the pixels at
hand are in `values`, and each step changes them or writes them somewhere.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any

import numba
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from qframe_packed.compiled.addresses import floats_at, integers_at
from qframe_packed.compiled.vectors import (
    LANES,
    copy,
    integer,
    load,
    loop,
    over_channels,
    splat,
    store,
)

# Of a row.
INTEGERS = 8
# In levels, how far a threshold is from where it were among evenly spaced ones.
MOST_UNEVEN = 0.25


class Code(enum.IntEnum):
    """What a step does.

    `STORE` and `PLANES` only read the numbers at hand, all others change them. Those up to
    `STORE` take up to three operands for each channel: their addresses are after the code,
    and then how many bytes the first moves with each pixel.
    """

    AFFINE = 0  # scales, shifts
    RELU = 1  # thresholds, the most
    LEAKY_RELU = 2  # thresholds, the most, alphas
    HARD_TANH = 3
    LEAKY_TANH = 4  # alphas
    PRELU = 5  # alphas
    ADD = 6  # a tensor
    SUBTRACT = 7  # the same
    SUBTRACT_FROM = 8  # the same
    MULTIPLY = 9  # the same
    DIVIDE = 10  # divisors
    STORE = 11  # address of a tensor
    LEVELS = 12  # addresses of thresholds, of directions; their number; of low and step
    EVEN_LEVELS = 13  # the same, and of how many levels there are in 1.0
    PLANES = 14  # thresholds, directions, number; of a tensor; its planes; bytes of a plane


def _limited(b: Any, x: Any, most: Any) -> Any:
    return b.select(b.fcmp_ordered(">", x, most), most, x)


def _above(b: Any, x: Any, edge: Any, below: Any) -> Any:
    return b.select(b.fcmp_ordered(">", x, edge), x, below)


def _leaky(b: Any, x: Any, edge: Any, most: Any, alpha: Any) -> Any:
    return _limited(b, _above(b, x, edge, b.fmul(alpha, b.fsub(x, edge))), most)


def _inside(b: Any, x: Any) -> Any:
    ends = [ir.Constant(x.type, [end] * x.type.count) for end in (-1.0, 1.0)]
    return _limited(b, b.select(b.fcmp_ordered("<", x, ends[0]), ends[0], x), ends[1])


def _leaky_tanh(b: Any, x: Any, alpha: Any) -> Any:
    inside = _inside(b, x)
    return b.fadd(inside, b.fmul(alpha, b.fsub(x, inside)))


def _relu(b: Any, x: Any, edge: Any, most: Any) -> Any:
    return _limited(b, _above(b, x, edge, ir.Constant(x.type, None)), most)


def _prelu(b: Any, x: Any, alpha: Any) -> Any:
    return _above(b, x, ir.Constant(x.type, None), b.fmul(alpha, x))


# From numbers to numbers: how many operands there are, and what is done with them.
CHANGES: dict[Code, tuple[int, Callable[..., Any]]] = {
    Code.AFFINE: (2, lambda b, x, scale, shift: b.fadd(b.fmul(x, scale), shift)),
    Code.RELU: (2, _relu),
    Code.LEAKY_RELU: (3, _leaky),
    Code.HARD_TANH: (0, _inside),
    Code.LEAKY_TANH: (1, _leaky_tanh),
    Code.PRELU: (1, _prelu),
    Code.ADD: (1, lambda b, x, other: b.fadd(x, other)),
    Code.SUBTRACT: (1, lambda b, x, other: b.fsub(x, other)),
    Code.SUBTRACT_FROM: (1, lambda b, x, other: b.fsub(other, x)),
    Code.MULTIPLY: (1, lambda b, x, other: b.fmul(x, other)),
    Code.DIVIDE: (1, lambda b, x, divisor: b.fdiv(x, divisor)),
}
# Those whose operand is a tensor, and is another one for each row.
MERGES = (Code.ADD, Code.SUBTRACT, Code.SUBTRACT_FROM, Code.MULTIPLY)


def _rows(
    b: Any, size: Any, starts: tuple[Any, ...], steps: tuple[Any, ...], body: Any
) -> None:
    """Emit a loop over rows: `body` gets addresses that go on from row to row."""

    def row(index: Any, *addresses: Any) -> tuple[Any, ...]:
        body(*addresses)
        return tuple(b.add(a, step) for a, step in zip(addresses, steps, strict=True))

    loop(b, integer(0), size, 1, starts, row)


def _emit_change(
    b: Any,
    code: Code,
    values: Any,
    stride: Any,
    size: Any,
    operands: list[Any],
    move: Any,
    channels: Any,
) -> None:
    """Emit what one of `CHANGES` is, one column after the other."""
    count, change = CHANGES[code]

    def body(kind: Any, index: Any) -> None:
        offset = b.mul(index, integer(4))
        at, *others = [b.add(a, offset) for a in (values, *operands[:count])]
        merges = code in MERGES
        # What is the same for each row stays in registers.
        held = [] if merges else [load(b, kind, address) for address in others]

        def row(x: Any, *other: Any) -> None:
            given = held or [load(b, kind, address) for address in other]
            store(b, change(b, load(b, kind, x), *given), x)

        if merges:
            _rows(b, size, (at, *others), (stride, move), row)
        else:
            _rows(b, size, (at,), (stride,), row)

    over_channels(b, channels, body)


@intrinsic
def change_rows(
    typing: Any,
    code: Any,
    values: Any,
    stride: Any,
    size: Any,
    first: Any,
    second: Any,
    third: Any,
    move: Any,
    channels: Any,
) -> Any:
    """Do one of `CHANGES` to so many floats of each of `size` rows.

    `values` and the three operands are addresses. Rows are `stride` bytes apart, and
    those of a tensor that is an operand `move` bytes.
    """

    def codegen(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
        code, values, stride, size, *operands, move, channels = arguments
        done = b.append_basic_block("done")
        switch = b.switch(code, done)
        for known in CHANGES:
            block = b.append_basic_block(known.name.lower())
            switch.add_case(integer(int(known)), block)
            b.position_at_end(block)
            _emit_change(b, known, values, stride, size, operands, move, channels)
            b.branch(done)
        b.position_at_end(done)
        return context.get_dummy_value()

    return types.void(*[types.intp] * 9), codegen


def _planes(signs: bool) -> Any:
    """The intrinsic for one threshold, or for more."""

    def write(
        typing: Any,
        values: Any,
        stride: Any,
        size: Any,
        thresholds: Any,
        count: Any,
        directions: Any,
        out: Any,
        planes: Any,
        plane: Any,
        channels: Any,
    ) -> Any:
        def codegen(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
            values, stride, size, thresholds, count, directions = arguments[:6]
            out, planes, plane, channels = arguments[6:]

            def body(kind: Any, index: Any) -> None:
                offset = b.mul(index, integer(4))
                edges = b.add(thresholds, offset)
                direction = load(b, kind, b.add(directions, offset))
                numbers = ir.VectorType(ir.IntType(32), kind.count)
                first = load(b, kind, edges) if signs else None

                def bits(found: Any, to: Any) -> None:
                    store(b, b.bitcast(found, ir.IntType(kind.count)), to, align=1)

                def row(x: Any, to: Any) -> None:
                    directed = b.fmul(load(b, kind, x), direction)
                    if signs:
                        bits(b.fcmp_ordered(">=", directed, first), to)
                        return

                    def reached(index: Any, edge: Any, total: Any) -> tuple[Any, ...]:
                        more = b.fcmp_ordered(">=", directed, load(b, kind, edge))
                        return b.add(edge, stride), b.add(total, b.zext(more, numbers))

                    def digit(index: Any, at: Any, rest: Any) -> tuple[Any, ...]:
                        bits(b.trunc(rest, ir.VectorType(ir.IntType(1), kind.count)), at)
                        ones = ir.Constant(numbers, [1] * kind.count)
                        return b.add(at, plane), b.lshr(rest, ones)

                    none = ir.Constant(numbers, None)
                    _, total = loop(b, integer(0), count, 1, (edges, none), reached)
                    loop(b, integer(0), planes, 1, (to, total), digit)

                starts = b.add(values, offset), b.add(out, b.lshr(index, integer(3)))
                _rows(b, size, starts, (stride, b.mul(planes, plane)), row)

            over_channels(b, channels, body, LANES)
            return context.get_dummy_value()

        return types.void(*[types.intp] * 10), codegen

    return intrinsic(write)


# Write how many thresholds the floats of each row reach, as bits: `planes` of them, which
# are `plane` bytes apart. All are integers or addresses; rows of values, and of the `count`
# thresholds, are `stride` bytes apart. For one threshold there is one plane.
store_planes, store_signs = _planes(signs=False), _planes(signs=True)


@intrinsic
def find_even_levels(
    typing: Any,
    values: Any,
    stride: Any,
    size: Any,
    thresholds: Any,
    count: Any,
    directions: Any,
    numbers: Any,
    steepness: Any,
    channels: Any,
) -> Any:
    """Turn floats into levels, by a guess that is one too low, or right.

    Those of each row; `stride` is that of rows, and of the `count` rows of thresholds.
    """

    def codegen(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
        values, stride, size, thresholds, count, directions = arguments[:6]
        numbers, steepness, channels = arguments[6:]

        def body(kind: Any, index: Any) -> None:
            offset = b.mul(index, integer(4))
            table = b.add(thresholds, offset)
            direction = load(b, kind, b.add(directions, offset))
            steep, first = load(b, kind, b.add(steepness, offset)), load(b, kind, table)
            low, step = (load(b, kind.element, b.add(numbers, integer(i))) for i in (0, 4))
            low, step = splat(b, low, kind.count), splat(b, step, kind.count)
            none = ir.Constant(kind, None)
            most = b.sitofp(b.sub(count, integer(1)), kind.element)
            most = splat(b, most, kind.count)
            ahead = ir.Constant(kind, [1 - MOST_UNEVEN] * kind.count)

            def row(at: Any) -> None:
                x = b.fmul(load(b, kind, at), direction)
                guess = b.fadd(b.fmul(b.fsub(x, first), steep), ahead)
                # NaN is below all.
                guess = b.select(b.fcmp_ordered(">", guess, none), guess, none)
                guess = b.select(b.fcmp_ordered("<", guess, most), guess, most)
                level = b.fptosi(guess, ir.VectorType(ir.IntType(64), kind.count))
                edges = none
                for lane in range(kind.count):
                    place = ir.Constant(ir.IntType(32), lane)
                    edge = b.mul(b.extract_element(level, place), stride)
                    edge = b.add(b.add(table, edge), integer(4 * lane))
                    edges = b.insert_element(edges, load(b, kind.element, edge), place)
                more = b.uitofp(b.fcmp_ordered(">=", x, edges), kind)
                level = b.fadd(b.sitofp(level, kind), more)
                store(b, b.fadd(low, b.fmul(step, level)), at)

            _rows(b, size, (b.add(values, offset),), (stride,), row)

        over_channels(b, channels, body, LANES)
        return context.get_dummy_value()

    return types.void(*[types.intp] * 9), codegen


@numba.njit(nogil=True)
def _find_levels(row: Any, channels: int, width: int, p: Any) -> None:
    directions, count, numbers = floats_at(p[2]), p[3], floats_at(p[4])
    for c in range(channels):
        table = floats_at(p[1] + 4 * c)
        x = row[c] * directions[c]
        low, high = 0, count
        while low < high:
            middle = (low + high) // 2
            if x >= table[middle * width]:
                low = middle + 1
            else:
                high = middle
        row[c] = numbers[0] + numbers[1] * low


@numba.njit(nogil=True)
def follow(
    values: int, width: int, first: int, size: int, channels: int, chain: Any
) -> None:
    """Do the steps of a chain with `size` pixels from `first` on, each a row of `width`.

    `chain` has the address of the integers of the steps, and their number.
    """
    stride = 4 * width
    # There is room for whole vectors, but in what is elsewhere.
    room = (channels + 7) & ~7
    for index in range(chain[1]):
        p = integers_at(chain[0] + 8 * INTEGERS * index)
        code = p[0]
        if code == Code.PLANES:
            out = p[4] + first * p[5] * p[6]
            if p[3] == 1:
                store_signs(values, stride, size, p[1], p[3], p[2], out, p[5], p[6], room)
            else:
                store_planes(values, stride, size, p[1], p[3], p[2], out, p[5], p[6], room)
        elif code == Code.STORE:
            out = p[1] + 4 * first * channels
            if channels == width:
                copy(out, values, size * channels)
            else:
                for i in range(size):
                    copy(out + 4 * i * channels, values + i * stride, channels)
        elif code == Code.EVEN_LEVELS:
            find_even_levels(values, stride, size, p[1], p[3], p[2], p[4], p[5], room)
        elif code == Code.LEVELS:
            for i in range(size):
                _find_levels(floats_at(values + i * stride), channels, width, p)
        else:
            operand = p[1] + first * p[4]
            count = channels if p[4] else room
            change_rows(code, values, stride, size, operand, p[2], p[3], p[4], count)
