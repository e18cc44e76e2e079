"""Groups of registers: the channels of a pixel, 4 registers at a time and then one."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from llvmlite import ir

from qframe_packed.compiled.rounding import GROUP, LANES
from qframe_packed.compiled.vectors import either, integer, load, loop, shuffled, store

_I8 = ir.IntType(8)


def over_groups(b: Any, channels: Any, body: Callable[[int, Any], None]) -> None:
    """Emit loops over channels: those of 4 registers at a time, then those of one."""

    def group(registers: int, channel: Any) -> tuple[Any, ...]:
        body(registers, channel)
        return ()

    many = b.and_(channels, integer(-GROUP))
    loop(b, integer(0), many, GROUP, (), functools.partial(group, 4))
    loop(b, many, channels, LANES, (), functools.partial(group, 1))


def read(b: Any, kind: Any, address: Any, count: int, room: Any) -> list[Any]:
    """Read registers of floats, or the first `room` elements of one register.

    Memory behind these may not be touched: it may end there.
    """
    if room is None:
        size = 4 * kind.count
        places = range(0, count * size, size)
        return [load(b, kind, b.add(address, integer(place))) for place in places]
    return either(
        b,
        b.icmp_signed(">=", room, integer(kind.count)),
        lambda: [load(b, kind, address)],
        lambda: [_read_part(b, kind, address, room)],
    )


def _read_part(b: Any, kind: Any, address: Any, count: Any) -> Any:
    """Read fewer floats than a register has: a half of it, a quarter, and so on."""
    value, lanes, part = ir.Constant(kind, None), [*range(kind.count)], 1

    def longer() -> list[Any]:
        # The smallest part is the last one.
        place = b.mul(b.and_(count, integer(-2 * part)), integer(4))
        first = load(b, ir.VectorType(kind.element, part), b.add(address, place))
        wide = shuffled(b, first, (lanes[:part] * kind.count)[: kind.count])
        order = lanes[:part] + [kind.count + lane for lane in lanes[:-part]]
        chosen = ir.Constant(ir.VectorType(ir.IntType(32), kind.count), order)
        return [b.shuffle_vector(wide, value, chosen)]

    def as_long() -> list[Any]:
        return [value]

    while part < kind.count:
        chosen = b.icmp_signed("!=", b.and_(count, integer(part)), integer(0))
        (value,) = either(b, chosen, longer, as_long)
        part *= 2
    return value


def write(b: Any, registers: list[Any], address: Any, room: Any) -> None:
    """Write registers, or the first `room` elements of one register."""
    register, *_ = registers
    kind = register.type
    size = 1 if kind.element == _I8 else 4
    if room is None:
        for i, register in enumerate(registers):
            store(b, register, b.add(address, integer(i * size * kind.count)), align=size)
        return
    with b.if_else(b.icmp_signed(">=", room, integer(kind.count))) as (whole, part):
        with whole:
            store(b, register, address, align=size)
        with part:
            _write_part(b, register, address, room, size)


def _write_part(b: Any, rest: Any, address: Any, count: Any, size: int) -> None:
    """Write fewer elements than a register has: a half of it, a quarter, and so on."""
    lanes = [*range(rest.type.count)]
    part = len(lanes) // 2

    def written() -> list[Any]:
        store(b, shuffled(b, rest, lanes[:part]), address, align=size)
        moved = shuffled(b, rest, lanes[part:] + lanes[:part])
        return [b.add(address, integer(part * size)), moved]

    def kept() -> list[Any]:
        return [address, rest]

    while part:
        chosen = b.icmp_signed("!=", b.and_(count, integer(part)), integer(0))
        address, rest = either(b, chosen, written, kept)
        part //= 2
