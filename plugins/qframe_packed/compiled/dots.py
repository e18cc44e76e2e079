"""Kinds of products of codes with weights: dot products of 4 numbers, in 32 bits.

An item is 4 codes, u8. A lane of a register of weights has the 4 integers, i8, by which
they are multiplied for an output channel, or fewer bits of those of several items.
"""

from __future__ import annotations

from typing import Any, ClassVar

import attrs
import numpy as np
from llvmlite import ir
from numpy.typing import NDArray

from qframe_packed.compiled import processor
from qframe_packed.compiled.kinds import Kind
from qframe_packed.compiled.vectors import at, declared, joined, shuffled

_I8, _I16, _I32 = (ir.IntType(bits) for bits in (8, 16, 32))
_F32 = ir.FloatType()


class Dot(Kind):
    """Dot products by one instruction, of x86."""

    # What products subtract from each code.
    bias: ClassVar[int] = 0

    @property
    def narrow(self) -> BytePairs | None:
        """The kind for products of few bits, of the same operands; None without one."""
        return None

    @property
    def vector(self) -> Any:
        return ir.VectorType(_I32, self.lanes)

    @property
    def products(self) -> int:
        return 4 * self.lanes

    def factor(self, b: Any, item: Any) -> Any:
        return self.codes(b, super().factor(b, item))

    def codes(self, b: Any, register: Any) -> Any:
        """Emit what products need of a register of codes."""
        return register

    def add(self, b: Any, sums: Any, factor: Any, weights: Any) -> Any:
        # Its first factor is the unsigned one.
        name = f"llvm.x86.avx512.vpdpbusd.{32 * self.lanes}"
        dot = declared(b, name, self.vector, [self.vector] * 3)
        return b.call(dot, [sums, factor, weights])

    def integers(self, b: Any, total: Any, start: Any) -> Any:
        """Emit whole sums: see `result`."""
        # They wrap around, so that only the whole sum has to fit 32 bits.
        return b.add(b.load(at(b, start, 0, self.vector), align=4), total)

    def floats(self, b: Any, total: Any) -> Any:
        return b.sitofp(total, ir.VectorType(_F32, self.lanes))

    def result(self, b: Any, total: Any, start: Any, factor: Any) -> Any:
        return self.floats(b, self.integers(b, total, start))


@attrs.frozen
class Packed(Dot):
    """Dot products with weights of a few bits, which become bytes in registers.

    A weight stays in the upper bits of a byte, so that products are `times` as large.

    Args:
        weight_bits: 4 or 2; the first of several weights is in the lowest bits of a byte.
    """

    weight_bits: int = 4

    @property
    def name(self) -> str:
        return f"{super().name}{self.weight_bits}"

    @property
    def sharing(self) -> int:
        return 8 // self.weight_bits

    @property
    def times(self) -> int:
        """The factor of products, and of the integers from which sums start."""
        return 2 ** (8 - self.weight_bits)

    def weights(self, b: Any, register: Any) -> list[Any]:
        kind = ir.VectorType(_I16, 2 * self.lanes)
        wide = b.bitcast(register, kind)
        # In both bytes of a number.
        upper = ir.Constant(kind, [257 * (2**8 - self.times)] * kind.count)
        parts = []
        for shift in range(8 - self.weight_bits, -1, -self.weight_bits):
            moved = b.shl(wide, ir.Constant(kind, [shift] * kind.count))
            parts.append(b.bitcast(b.and_(moved, upper), self.vector))
        return parts

    def floats(self, b: Any, total: Any) -> Any:
        numbers = super().floats(b, total)
        # It is a power of two, which changes no digit.
        return b.fmul(numbers, ir.Constant(numbers.type, [1 / self.times] * self.lanes))


class ArmDot(Dot):
    """Dot products by one instruction of ARM."""

    instruction: ClassVar[str] = "usdot"

    def add(self, b: Any, sums: Any, factor: Any, weights: Any) -> Any:
        # Its first factor is the unsigned one.
        kind = ir.VectorType(_I8, 4 * self.lanes)
        name = f"llvm.aarch64.neon.{self.instruction}.v{self.lanes}i32.v{kind.count}i8"
        dot = declared(b, name, self.vector, [self.vector, kind, kind])
        return b.call(dot, [sums, b.bitcast(factor, kind), b.bitcast(weights, kind)])


class SignedDot(ArmDot):
    """The same by the instruction for signed numbers: 128 is subtracted from each code."""

    instruction = "sdot"
    bias = 2**7

    def codes(self, b: Any, register: Any) -> Any:
        signs = ir.Constant(self.vector, [0x80808080] * self.lanes)
        return b.xor(register, signs)


class SignedBytes(SignedDot):
    """The same by products in 16 bits, added in pairs: for ARM without dot products."""

    def add(self, b: Any, sums: Any, factor: Any, weights: Any) -> Any:
        kind, half = ir.VectorType(_I8, 16), ir.VectorType(_I8, 8)
        words = ir.VectorType(_I16, 8)
        multiply = declared(b, "llvm.aarch64.neon.smull.v8i16", words, [half] * 2)
        widen = declared(b, "llvm.aarch64.neon.saddlp.v4i32.v8i16", self.vector, [words])
        join = declared(b, "llvm.aarch64.neon.addp.v4i32", self.vector, [self.vector] * 2)
        both, pairs = [b.bitcast(x, kind) for x in (factor, weights)], []
        for first in (0, 8):
            parts = [shuffled(b, x, [*range(first, first + 8)]) for x in both]
            pairs.append(b.call(widen, [b.call(multiply, parts)]))
        return b.add(sums, b.call(join, pairs))


class Pairs(Dot):
    """Dot products of 16-bit numbers in pairs: of the even bytes, then of the odd ones."""

    @property
    def _halves(self) -> Any:
        return ir.VectorType(_I16, 2 * self.lanes)

    @property
    def alone(self) -> Kind:
        # It makes the words of its weights for one product only.
        present = _multiplies_bytes(self.lanes)
        return Nibbles(self.lanes, self.item, self.bits) if present else self

    @property
    def narrow(self) -> BytePairs | None:
        present = _multiplies_bytes(self.lanes)
        return BytePairs(self.lanes, self.item, self.bits) if present else None

    def codes(self, b: Any, register: Any) -> Any:
        codes = b.bitcast(register, self._halves)
        low = ir.Constant(self._halves, [255] * codes.type.count)
        return b.and_(codes, low), b.lshr(codes, _eights(codes))

    def weights(self, b: Any, register: Any) -> list[Any]:
        wide = b.bitcast(register, self._halves)
        even = b.ashr(b.shl(wide, _eights(wide)), _eights(wide))
        return [(even, b.ashr(wide, _eights(wide)))]

    def add(self, b: Any, sums: Any, factor: Any, weights: Any) -> Any:
        # LLVM has an instruction for this on most processors.
        for pair, numbers in zip(factor, weights, strict=True):
            kind = ir.VectorType(_I32, 2 * self.lanes)
            products = b.mul(b.sext(pair, kind), b.sext(numbers, kind))
            first, second = (
                shuffled(b, products, [*range(start, 2 * self.lanes, 2)])
                for start in (0, 1)
            )
            sums = b.add(sums, b.add(first, second))
        return sums


@attrs.frozen
class BytePairs(Dot):
    """Dot products of bytes that are added in pairs in 16 bits, which have to hold them."""

    @staticmethod
    def holds(weights: NDArray[np.int8], most: int) -> bool:
        """Return whether 16 bits hold all sums of pairs.

        Args:
            weights: (output, byte).
            most: the largest code.
        """
        pairs = weights.reshape(len(weights), -1, 2).astype(np.int32)
        highest, lowest = np.maximum(pairs, 0), np.minimum(pairs, 0)
        ends = lowest.sum(axis=2).min(), highest.sum(axis=2).max()
        return most * ends[0] >= -(2**15) and most * ends[1] < 2**15

    def add(self, b: Any, sums: Any, factor: Any, weights: Any) -> Any:
        words = _multiplied(b, self.lanes, factor, weights)
        return b.add(sums, _added(b, self.lanes, words, 1))


@attrs.frozen
class Nibbles(Dot):
    """Products of the halves of codes with bytes, which are added in pairs in 16 bits.

    Of whole codes these sums of two would not fit; of halves eight of them do.
    """

    longest: int | None = 8

    @property
    def sums(self) -> Any:
        # A register for the upper halves, and one for the lower ones.
        return ir.VectorType(_I16, 4 * self.lanes)

    def codes(self, b: Any, register: Any) -> Any:
        upper = b.lshr(register, ir.Constant(self.vector, [4] * self.lanes))
        low = ir.Constant(self.vector, [0x0F0F0F0F] * self.lanes)
        return b.and_(upper, low), b.and_(register, low)

    def add(self, b: Any, sums: Any, factor: Any, weights: Any) -> Any:
        products = [_multiplied(b, self.lanes, half, weights) for half in factor]
        return b.add(sums, joined(b, *products))

    def add_sums(self, b: Any, total: Any, sums: Any) -> Any:
        count = 2 * self.lanes
        for start, times in ((0, 16), (count, 1)):
            words = shuffled(b, sums, [*range(start, start + count)])
            total = b.add(total, _added(b, self.lanes, words, times))
        return total


# By the lanes of a register: what has products of bytes and of words that are added in
# pairs, and both.
_BYTES = {
    4: ("ssse3", "llvm.x86.ssse3.pmadd.ub.sw.128", "llvm.x86.sse2.pmadd.wd"),
    8: ("avx2", "llvm.x86.avx2.pmadd.ub.sw", "llvm.x86.avx2.pmadd.wd"),
    16: (
        "avx512bw",
        "llvm.x86.avx512.pmaddubs.w.512",
        "llvm.x86.avx512.pmaddw.d.512",
    ),
}


def _multiplies_bytes(lanes: int) -> bool:
    return lanes in _BYTES and _BYTES[lanes][0] in processor.FEATURES


def _multiplied(b: Any, lanes: int, codes: Any, weights: Any) -> Any:
    """Products of bytes, added in pairs."""
    _, name, _ = _BYTES[lanes]
    kind = ir.VectorType(_I8, 4 * lanes)
    multiply = declared(b, name, ir.VectorType(_I16, 2 * lanes), [kind] * 2)
    # Its first factor is the unsigned one.
    return b.call(multiply, [b.bitcast(part, kind) for part in (codes, weights)])


def _added(b: Any, lanes: int, words: Any, times: int) -> Any:
    """Words times a number, added in pairs."""
    *_, name = _BYTES[lanes]
    multiply = declared(b, name, ir.VectorType(_I32, lanes), [words.type] * 2)
    return b.call(multiply, [words, ir.Constant(words.type, [times] * 2 * lanes)])


def _eights(vector: Any) -> Any:
    return ir.Constant(vector.type, [8] * vector.type.count)
