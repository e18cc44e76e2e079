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
    copy,
    integer,
    load,
    over_channels,
    store,
)

_I8, _I32, _I64, _F32 = ir.IntType(8), ir.IntType(32), ir.IntType(64), ir.FloatType()
# Of a row.
INTEGERS = 8


class Code(enum.IntEnum):
    """What a step does.

    Those up to `STORE` change numbers, with up to three operands, for each channel: their
    addresses are after the code, and then how many bytes the first moves with each pixel.
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
    PLANES = 13  # thresholds, directions, number; of a tensor; its planes; bytes of a plane


def _limited(b: Any, x: Any, most: Any) -> Any:
    return b.select(b.fcmp_ordered(">", x, most), most, x)


def _leaky(b: Any, x: Any, of: Any) -> Any:
    below = b.fmul(of(2), b.fsub(x, of(0)))
    return _limited(b, b.select(b.fcmp_ordered(">", x, of(0)), x, below), of(1))


def _inside(b: Any, x: Any) -> Any:
    ends = [ir.Constant(x.type, [end] * x.type.count) for end in (-1.0, 1.0)]
    return _limited(b, b.select(b.fcmp_ordered("<", x, ends[0]), ends[0], x), ends[1])


def _leaky_tanh(b: Any, x: Any, of: Any) -> Any:
    inside = _inside(b, x)
    return b.fadd(inside, b.fmul(of(0), b.fsub(x, inside)))


def _relu(b: Any, x: Any, of: Any) -> Any:
    zero = ir.Constant(x.type, None)
    return _limited(b, b.select(b.fcmp_ordered(">", x, of(0)), x, zero), of(1))


def _prelu(b: Any, x: Any, of: Any) -> Any:
    zero = ir.Constant(x.type, None)
    return b.select(b.fcmp_ordered(">", x, zero), x, b.fmul(of(0), x))


# From numbers to numbers; `of` loads an operand.
CHANGES: dict[Code, Callable[[Any, Any, Callable[[int], Any]], Any]] = {
    Code.AFFINE: lambda b, x, of: b.fadd(b.fmul(x, of(0)), of(1)),
    Code.RELU: _relu,
    Code.LEAKY_RELU: _leaky,
    Code.HARD_TANH: lambda b, x, of: _inside(b, x),
    Code.LEAKY_TANH: _leaky_tanh,
    Code.PRELU: _prelu,
    Code.ADD: lambda b, x, of: b.fadd(x, of(0)),
    Code.SUBTRACT: lambda b, x, of: b.fsub(x, of(0)),
    Code.SUBTRACT_FROM: lambda b, x, of: b.fsub(of(0), x),
    Code.MULTIPLY: lambda b, x, of: b.fmul(x, of(0)),
    Code.DIVIDE: lambda b, x, of: b.fdiv(x, of(0)),
}


@intrinsic
def change_row(
    typing: Any, code: Any, row: Any, first: Any, second: Any, third: Any, channels: Any
) -> Any:
    """Do one of `CHANGES` to so many floats; all but those two are addresses."""

    def codegen(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
        code, row, *operands, channels = arguments
        done = b.append_basic_block("done")
        switch = b.switch(code, done)
        for known, change in CHANGES.items():
            block = b.append_basic_block(known.name.lower())
            switch.add_case(integer(int(known)), block)
            b.position_at_end(block)

            def body(kind: Any, offset: Any, change: Any = change) -> None:
                def of(number: int) -> Any:
                    return load(b, kind, b.add(operands[number], offset))

                at = b.add(row, offset)
                store(b, change(b, load(b, kind, at), of), at)

            over_channels(b, channels, body)
            b.branch(done)
        b.position_at_end(done)
        return context.get_dummy_value()

    return types.void(*[types.intp] * 6), codegen


def _vector(kind: Any) -> Any:
    return ir.VectorType(kind, 8)


@intrinsic
def store_planes(
    typing: Any,
    values: Any,
    thresholds: Any,
    stride: Any,
    count: Any,
    directions: Any,
    out: Any,
    planes: Any,
    plane: Any,
) -> Any:
    """Write how many thresholds 8 values reach, as bits: a byte for each plane.

    All are integers or addresses: of 8 float32 values; of `count` rows of thresholds,
    `stride` bytes apart; of directions; of the first of `planes` bytes, which are `plane`
    bytes apart.
    """

    def codegen(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
        values, thresholds, stride, count, directions, out, planes, plane = arguments

        def load(address: Any) -> Any:
            return b.load(b.inttoptr(address, _vector(_F32).as_pointer()), align=4)

        directed = b.fmul(load(values), load(directions))
        before, counting, counted, writing, done = (
            b.block,
            *(
                b.append_basic_block(name)
                for name in ("counting", "counted", "writing", "done")
            ),
        )
        b.branch(counting)
        b.position_at_end(counting)
        index, reached = b.phi(_I64), b.phi(_vector(_I32))
        index.add_incoming(ir.Constant(_I64, 0), before)
        reached.add_incoming(ir.Constant(_vector(_I32), None), before)
        row = load(b.add(thresholds, b.mul(index, stride)))
        more = b.zext(b.fcmp_ordered(">=", directed, row), _vector(_I32))
        new, following = b.add(reached, more), b.add(index, ir.Constant(_I64, 1))
        index.add_incoming(following, counting)
        reached.add_incoming(new, counting)
        b.cbranch(b.icmp_signed("<", following, count), counting, counted)

        b.position_at_end(counted)
        b.branch(writing)
        b.position_at_end(writing)
        at, rest = b.phi(_I64), b.phi(_vector(_I32))
        at.add_incoming(ir.Constant(_I64, 0), counted)
        rest.add_incoming(new, counted)
        ones = ir.Constant(_vector(_I32), [1] * 8)
        bits = b.bitcast(b.trunc(b.and_(rest, ones), _vector(ir.IntType(1))), _I8)
        b.store(bits, b.inttoptr(b.add(out, b.mul(at, plane)), _I8.as_pointer()))
        next_ = b.add(at, ir.Constant(_I64, 1))
        at.add_incoming(next_, writing)
        rest.add_incoming(b.lshr(rest, ones), writing)
        b.cbranch(b.icmp_signed("<", next_, planes), writing, done)
        b.position_at_end(done)
        return context.get_dummy_value()

    return types.void(*[types.intp] * 8), codegen


@intrinsic
def store_signs(
    typing: Any, values: Any, thresholds: Any, directions: Any, out: Any
) -> Any:
    """Write which of 8 values reach their threshold, as a byte; all are addresses."""

    def codegen(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
        *given, out = arguments
        kind = _vector(_F32).as_pointer()
        x, edge, sign = (b.load(b.inttoptr(a, kind), align=4) for a in given)
        found = b.bitcast(b.fcmp_ordered(">=", b.fmul(x, sign), edge), _I8)
        b.store(found, b.inttoptr(out, _I8.as_pointer()))
        return context.get_dummy_value()

    return types.void(*[types.intp] * 4), codegen


@numba.njit(nogil=True, cache=True)
def _find_levels(row: Any, channels: int, width: int, step: Any) -> None:
    directions, count, numbers = floats_at(step[2]), step[3], floats_at(step[4])
    for c in range(channels):
        table = floats_at(step[1] + 4 * c)
        x = row[c] * directions[c]
        low, high = 0, count
        while low < high:
            middle = (low + high) // 2
            if x >= table[middle * width]:
                low = middle + 1
            else:
                high = middle
        row[c] = numbers[0] + numbers[1] * low


@numba.njit(nogil=True, cache=True)
def _write_planes(address: int, pixel: int, stride: int, step: Any) -> None:
    thresholds, directions, count = step[1], step[2], step[3]
    planes, plane = step[5], step[6]
    out = step[4] + pixel * planes * plane
    if count == 1:
        for byte in range(plane):
            at = 32 * byte
            store_signs(address + at, thresholds + at, directions + at, out + byte)
        return
    for byte in range(plane):
        at = 32 * byte
        store_planes(
            address + at,
            thresholds + at,
            stride,
            count,
            directions + at,
            out + byte,
            planes,
            plane,
        )


@numba.njit(nogil=True, cache=True)
def follow(
    values: int, width: int, first: int, size: int, channels: int, chain: Any
) -> None:
    """Do the steps of a chain with `size` pixels from `first` on, each a row of `width`.

    `chain` has the address of the integers of the steps, and their number.
    """
    stride = 4 * width
    for index in range(chain[1]):
        step = integers_at(chain[0] + 8 * INTEGERS * index)
        code = step[0]
        for i in range(size):
            address = values + i * stride
            if code == Code.PLANES:
                _write_planes(address, first + i, stride, step)
            elif code == Code.STORE:
                copy(step[1] + 4 * (first + i) * channels, address, channels)
            elif code == Code.LEVELS:
                _find_levels(floats_at(address), channels, width, step)
            else:
                # There is room for whole vectors, but for what moves.
                count = channels if step[4] else (channels + 7) & ~7
                operand = step[1] + (first + i) * step[4]
                change_row(code, address, operand, step[2], step[3], count)
