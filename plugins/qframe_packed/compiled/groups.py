"""Groups of registers: the channels of a pixel, 4 registers at a time and then one."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from llvmlite import ir

from qframe_packed.compiled.rounding import GROUP, LANES
from qframe_packed.compiled.vectors import either, integer, loop, shuffled, store

_I8 = ir.IntType(8)


def over_groups(b: Any, channels: Any, body: Callable[[int, Any], None]) -> None:
    """Emit loops over channels: those of 4 registers at a time, then those of one."""

    def group(registers: int, channel: Any) -> tuple[Any, ...]:
        body(registers, channel)
        return ()

    many = b.and_(channels, integer(-GROUP))
    loop(b, integer(0), many, GROUP, (), functools.partial(group, 4))
    loop(b, many, channels, LANES, (), functools.partial(group, 1))


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
