"""LLVM code that rounds floats in registers to codes."""

from __future__ import annotations

from typing import Any

import attrs
from llvmlite import ir

from qframe_packed.compiled import processor
from qframe_packed.compiled.quotients import FUSES
from qframe_packed.compiled.vectors import (
    declared,
    either,
    integer,
    joined,
    shuffled,
    splat,
)

_I8, _I16, _I32 = (ir.IntType(bits) for bits in (8, 16, 32))
# A float to which a number is added to be rounded: its last bit is worth 1.
_MAGIC = 1.5 * 2**23
_MAGIC_BITS = 0x4B400000


@attrs.frozen
class _Packs:
    """Instructions of x86 that convert floats to integers and saturate them."""

    lanes: int
    to_numbers: str
    to_words: str
    to_codes: str


_PACKS = {
    "avx512bw": _Packs(
        16,
        "llvm.x86.avx512.mask.cvtps2dq.512",
        "llvm.x86.avx512.packssdw.512",
        "llvm.x86.avx512.packuswb.512",
    ),
    "avx2": _Packs(
        8,
        "llvm.x86.avx.cvt.ps2dq.256",
        "llvm.x86.avx2.packssdw",
        "llvm.x86.avx2.packuswb",
    ),
    "sse2": _Packs(
        4,
        "llvm.x86.sse2.cvtps2dq",
        "llvm.x86.sse2.packssdw.128",
        "llvm.x86.sse2.packuswb.128",
    ),
}
_PACK = next((packs for f, packs in _PACKS.items() if f in processor.FEATURES), None)
# Numbers in a register, and those that become codes together, of 4 registers.
LANES = _PACK.lanes if _PACK else 4
GROUP = 4 * LANES


class Rounding:
    """The code that divides, rounds to half even and clips.

    Args:
        b: the builder.
        p: the fields of a `Finish`, which are read here.
        interleaved: the order of channels: see `Emission`.
    """

    def __init__(self, b: Any, p: Any, interleaved: bool) -> None:
        self._b, self._interleaved = b, interleaved
        self._divides = b.icmp_signed("!=", p.quotient.divides, integer(0))
        self._factor, self._divisor, self._bottom, self._top = (
            splat(b, getattr(p, name), LANES)
            for name in ("factor", "divisor", "bottom", "top")
        )
        self._high, self._rest, self._most = (
            splat(b, getattr(p.quotient, name), LANES) for name in ("high", "low", "most")
        )
        base = b.add(b.trunc(p.low, _I32), ir.Constant(_I32, _MAGIC_BITS))
        self._base = splat(b, base, LANES)
        self._low = splat(b, b.trunc(p.low, _I16), 2 * LANES)
        lowest = b.sub(b.fptosi(p.bottom, _I16), b.trunc(p.low, _I16))
        self._lowest = splat(b, b.trunc(lowest, _I8), GROUP)

    def codes(self, ys: list[Any]) -> Any:
        """One register with the codes of one register, of 2, or of 4."""
        quotients = either(
            self._b,
            self._divides,
            lambda: [self._divided(y) for y in ys],
            lambda: [self._multiplied(y) for y in ys],
        )
        if _PACK is None or len(ys) == 1:
            return self._clipped(quotients)
        return self._packed(quotients, _PACK)

    def _divided(self, y: Any) -> Any:
        b = self._b
        quotient = b.fdiv(b.fmul(y, self._factor), self._divisor)
        return _at_most(b, quotient, self._top)

    def _multiplied(self, y: Any) -> Any:
        b = self._b
        y = _at_most(b, y, self._most)
        if not FUSES:
            # The other part is zero.
            return b.fmul(y, self._high)
        fused = declared(b, f"llvm.fma.v{LANES}f32", y.type, [y.type] * 3)
        return b.call(fused, [y, self._high, b.fmul(y, self._rest)])

    def _clipped(self, ys: list[Any]) -> Any:
        b, levels = self._b, []
        for y in ys:
            y = b.select(b.fcmp_ordered(">", y, self._bottom), y, self._bottom)
            y = b.fadd(y, ir.Constant(y.type, [_MAGIC] * LANES))
            levels.append(b.sub(b.bitcast(y, self._base.type), self._base))
        while len(levels) > 1:
            levels = [joined(b, *levels[i : i + 2]) for i in range(0, len(levels), 2)]
        return b.trunc(levels[0], ir.VectorType(_I8, len(ys) * LANES))

    def _packed(self, ys: list[Any], packs: _Packs) -> Any:
        b, count = self._b, len(ys)
        numbers = ir.VectorType(_I32, LANES)
        words, codes = ir.VectorType(_I16, 2 * LANES), ir.VectorType(_I8, GROUP)
        levels = [self._converted(y, packs.to_numbers) for y in ys]
        to_words = declared(b, packs.to_words, words, [numbers] * 2)
        to_codes = declared(b, packs.to_codes, codes, [words] * 2)
        subtract = declared(b, f"llvm.ssub.sat.v{2 * LANES}i16", words, [words] * 2)
        largest = declared(b, f"llvm.umax.v{GROUP}i8", codes, [codes] * 2)
        halves = [b.call(to_words, levels[i : i + 2]) for i in range(0, count, 2)]
        halves = [b.call(subtract, [half, self._low]) for half in halves]
        both = [halves[0], halves[-1]]
        packed = b.call(largest, [b.call(to_codes, both), self._lowest])
        if self._interleaved:
            return packed
        # Packs work in parts of 4 lanes: (part, register) becomes (register, part).
        parts = LANES // 4
        order = [part * 4 + register for register in range(count) for part in range(parts)]
        ordered = shuffled(b, b.bitcast(packed, numbers), order)
        return b.bitcast(ordered, ir.VectorType(_I8, count * LANES))

    def _converted(self, y: Any, name: str) -> Any:
        b, kind = self._b, ir.VectorType(_I32, LANES)
        if LANES < 16:
            return b.call(declared(b, name, kind, [y.type]), [y])
        mask, mode = ir.IntType(16), ir.Constant(_I32, 4)
        convert = declared(b, name, kind, [y.type, kind, mask, _I32])
        arguments = [y, ir.Constant(kind, None), ir.Constant(mask, -1), mode]
        return b.call(convert, arguments)


def _at_most(b: Any, y: Any, most: Any) -> Any:
    # The conversion turns NaN, which stays, and too large numbers into the lowest integer.
    return b.select(b.fcmp_ordered("<", most, y), most, y)
