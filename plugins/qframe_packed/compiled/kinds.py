"""Kinds of products that tiles are made of: of bits, and of floats, as LLVM vector code."""

from __future__ import annotations

from typing import Any

import attrs
from llvmlite import ir

from qframe_packed.compiled.vectors import at, declared, integer, shuffled, splat

_I8, _I16, _I32, _I64 = (ir.IntType(bits) for bits in (8, 16, 32, 64))
_F32 = ir.FloatType()


@attrs.frozen
class Kind:
    """Products of one register.

    Args:
        lanes: output channels in a register.
        item: dtype of an item, which is a part of a pixel.
        bits: channels of an item as bits; 32 for floats, and for 4 codes.
        longest: items after which sums are added to a total; None if sums are the total.
    """

    lanes: int
    item: Any
    bits: int
    longest: int | None = None

    @property
    def name(self) -> str:
        """The part of the names of functions that says the kind."""
        return type(self).__name__.lower()

    @property
    def vector(self) -> Any:
        """Type of a register of weights."""
        raise NotImplementedError

    @property
    def sums(self) -> Any:
        """Type of sums."""
        return self.vector

    @property
    def total(self) -> Any:
        """Type of a total."""
        return self.vector

    @property
    def alone(self) -> Kind:
        """The kind for a pixel alone, which reads the same weights to the same totals."""
        return self

    @property
    def products(self) -> int:
        """Products of numbers, or of bits, in one register."""
        return self.lanes * self.bits

    def factor(self, b: Any, item: Any) -> Any:
        """Emit the register for an item of a pixel."""
        return splat(b, item, self.lanes)

    @property
    def sharing(self) -> int:
        """Items that follow one another whose weights share a register."""
        return 1

    def weights(self, b: Any, register: Any) -> list[Any]:
        """Emit what the products of each of these items need of a register of weights."""
        return [register]

    def add(self, b: Any, sums: Any, factor: Any, weights: Any) -> Any:
        """Emit the sums with one more product."""
        raise NotImplementedError

    def add_sums(self, b: Any, total: Any, sums: Any) -> Any:
        """Emit the total with more sums."""
        raise NotImplementedError

    def floats(self, b: Any, total: Any) -> Any:
        """Emit the total as floats."""
        return b.uitofp(total, ir.VectorType(_F32, self.lanes))

    def result(self, b: Any, total: Any, start: Any, factor: Any) -> Any:
        """Emit the floats that a tile writes.

        `start` is the address of the numbers from which sums start.
        """
        begin = b.load(at(b, start, 0, ir.VectorType(_F32, self.lanes)), align=4)
        products = b.fmul(self.floats(b, total), splat(b, factor, self.lanes))
        return b.fadd(begin, products)


class Popcount(Kind):
    """64 bits in each lane, by one instruction or by several."""

    @property
    def vector(self) -> Any:
        return ir.VectorType(_I64, self.lanes)

    def add(self, b: Any, sums: Any, factor: Any, weights: Any) -> Any:
        name = f"llvm.ctpop.v{self.lanes}i64"
        count = declared(b, name, self.vector, [self.vector])
        return b.add(sums, b.call(count, [b.xor(factor, weights)]))

    def floats(self, b: Any, total: Any) -> Any:
        return super().floats(b, b.trunc(total, ir.VectorType(_I32, self.lanes)))


class Bytes(Kind):
    """Bits of which each lane counts a few, in bytes."""

    @property
    def vector(self) -> Any:
        return ir.VectorType(_I8, self.lanes)

    @property
    def total(self) -> Any:
        return ir.VectorType(_I16, self.lanes)

    def add_sums(self, b: Any, total: Any, sums: Any) -> Any:
        return b.add(total, b.zext(sums, self.total))

    def floats(self, b: Any, total: Any) -> Any:
        return super().floats(b, b.zext(total, ir.VectorType(_I32, self.lanes)))


class Count(Bytes):
    """8 bits in each lane, where the processor counts the bits of bytes."""

    def add(self, b: Any, sums: Any, factor: Any, weights: Any) -> Any:
        name = f"llvm.ctpop.v{self.lanes}i8"
        count = declared(b, name, self.vector, [self.vector])
        return b.add(sums, b.call(count, [b.xor(factor, weights)]))


class Lookup(Bytes):
    """4 bits in each lane; an item is 16 times their number, the place of a row."""

    def factor(self, b: Any, item: Any) -> Any:
        row = b.gep(_rows(b.module), [integer(0), b.zext(item, _I64)], inbounds=True)
        counts = b.load(b.bitcast(row, ir.VectorType(_I8, 16).as_pointer()), align=16)
        return shuffled(b, counts, [lane % 16 for lane in range(self.lanes)])

    def add(self, b: Any, sums: Any, factor: Any, weights: Any) -> Any:
        name = {
            16: "llvm.x86.ssse3.pshuf.b.128",
            32: "llvm.x86.avx2.pshuf.b",
            64: "llvm.x86.avx512.pshuf.b.512",
        }[self.lanes]
        shuffle = declared(b, name, self.vector, [self.vector] * 2)
        return b.add(sums, b.call(shuffle, [factor, weights]))


class Floats(Kind):
    """A float in each lane."""

    @property
    def vector(self) -> Any:
        return ir.VectorType(_F32, self.lanes)

    def add(self, b: Any, sums: Any, factor: Any, weights: Any) -> Any:
        # It rounds once where the processor has an instruction for both.
        name = f"llvm.fmuladd.v{self.lanes}f32"
        fma = declared(b, name, self.vector, [self.vector] * 3)
        return b.call(fma, [factor, weights, sums])

    @property
    def products(self) -> int:
        return self.lanes

    def floats(self, b: Any, total: Any) -> Any:
        return total


def _rows(module: Any) -> Any:
    """A table: in row i, at place j, the number of bits that differ between i and j."""
    name = "qframe_packed.rows"
    if name not in module.globals:
        data = bytearray((i ^ j).bit_count() for i in range(16) for j in range(16))
        rows = ir.GlobalVariable(module, ir.ArrayType(_I8, 256), name)
        rows.initializer = ir.Constant(rows.type.pointee, data)
        rows.linkage, rows.global_constant, rows.align = "internal", True, 16
    return module.globals[name]
