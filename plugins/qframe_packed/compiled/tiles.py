"""Tiles of matrix products: a few pixels by many output channels, kept in registers.

A tile is LLVM vector code, which becomes instructions of any processor. There are three
kinds: bits by population counts, bits by lookups in registers where those are quicker (a
byte shuffle finds how many of 4 bits differ, for as many channels as a register has bytes),
and floats.
"""

from __future__ import annotations

import functools
from typing import Any

import attrs
import numpy as np
from llvmlite import ir
from numba import types

from qframe_packed.compiled import processor
from qframe_packed.compiled.functions import Function, function
from qframe_packed.compiled.vectors import (
    call,
    emitter,
    integer,
    loop,
    shuffled,
    splat,
)

_I8, _I16, _I32, _I64 = (ir.IntType(bits) for bits in (8, 16, 32, 64))
_F32 = ir.FloatType()
# Sums in bytes, to which each lookup adds up to 4, stay below 256.
_MOST_LOOKUPS = 60


@attrs.frozen
class Kind:
    """Products of one register.

    Args:
        lanes: output channels in a register.
        item: dtype of an item, which is a part of a pixel.
        bits: channels of an item as bits; 32 for floats.
        longest: items after which sums are added to a total; None if sums are the total.
    """

    lanes: int
    item: Any
    bits: int
    longest: int | None = None

    @property
    def vector(self) -> Any:
        """Type of a register of weights, and of sums."""
        raise NotImplementedError

    @property
    def total(self) -> Any:
        """Type of a total."""
        return self.vector

    def factor(self, b: Any, item: Any) -> Any:
        """Emit the register for an item of a pixel."""
        return splat(b, item, self.lanes)

    def add(self, b: Any, sums: Any, factor: Any, weights: Any) -> Any:
        """Emit the sums with one more product."""
        raise NotImplementedError

    def add_sums(self, b: Any, total: Any, sums: Any) -> Any:
        """Emit the total with more sums."""
        raise NotImplementedError

    def floats(self, b: Any, total: Any) -> Any:
        """Emit the total as floats."""
        return b.uitofp(total, ir.VectorType(_F32, self.lanes))


class Popcount(Kind):
    """64 bits in each lane, by one instruction or by several."""

    @property
    def vector(self) -> Any:
        return ir.VectorType(_I64, self.lanes)

    def add(self, b: Any, sums: Any, factor: Any, weights: Any) -> Any:
        name = f"llvm.ctpop.v{self.lanes}i64"
        count = _function(b, name, self.vector, [self.vector])
        return b.add(sums, b.call(count, [b.xor(factor, weights)]))

    def floats(self, b: Any, total: Any) -> Any:
        return super().floats(b, b.trunc(total, ir.VectorType(_I32, self.lanes)))


class Lookup(Kind):
    """4 bits in each lane; an item is 16 times their number, the place of a row."""

    @property
    def vector(self) -> Any:
        return ir.VectorType(_I8, self.lanes)

    @property
    def total(self) -> Any:
        return ir.VectorType(_I16, self.lanes)

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
        shuffle = _function(b, name, self.vector, [self.vector] * 2)
        return b.add(sums, b.call(shuffle, [factor, weights]))

    def add_sums(self, b: Any, total: Any, sums: Any) -> Any:
        return b.add(total, b.zext(sums, self.total))

    def floats(self, b: Any, total: Any) -> Any:
        return super().floats(b, b.zext(total, ir.VectorType(_I32, self.lanes)))


class Floats(Kind):
    """A float in each lane."""

    @property
    def vector(self) -> Any:
        return ir.VectorType(_F32, self.lanes)

    def add(self, b: Any, sums: Any, factor: Any, weights: Any) -> Any:
        # It rounds once where the processor has an instruction for both.
        name = f"llvm.fmuladd.v{self.lanes}f32"
        fma = _function(b, name, self.vector, [self.vector] * 3)
        return b.call(fma, [factor, weights, sums])

    def floats(self, b: Any, total: Any) -> Any:
        return total


@attrs.frozen
class Tile:
    """A number of pixels by a number of registers of output channels."""

    kind: Kind
    pixels: int
    vectors: int
    function: Function = attrs.field(init=False, eq=False)

    @function.default
    def _function(self) -> Function:
        return _function_of(self)

    @property
    def channels(self) -> int:
        """Output channels of a tile."""
        return self.vectors * self.kind.lanes


def tile_for(kind: Kind, outputs: int) -> int:
    """The place of the narrowest tile for this number of output channels."""
    places = [i for i, tile in enumerate(TILES) if tile.kind is kind]
    return next((i for i in places if TILES[i].channels >= outputs), places[-1])


def _function_of(tile: Tile) -> Function:
    """The function of a tile, for the arguments of `add_products`."""

    def emit(
        b: Any,
        size: Any,
        image: Any,
        windows: Any,
        weights: Any,
        offsets: Any,
        items: Any,
        starts: Any,
        column: Any,
        sums: Any,
        stride: Any,
        factor: Any,
    ) -> None:
        kind, pixels = tile.kind, range(tile.pixels)
        floats, factors = ir.VectorType(_F32, kind.lanes), splat(b, factor, kind.lanes)

        def multiply(index: Any, windows: Any, starts: Any, sums: Any) -> tuple[Any, ...]:
            begins = [b.add(image, b.load(_at(b, windows, 8 * p, _I64))) for p in pixels]
            totals = _products(b, tile, begins, weights, offsets, items)
            for p in pixels:
                start = b.add(b.load(_at(b, starts, 8 * p, _I64)), column)
                for v in range(tile.vectors):
                    offset = 4 * v * kind.lanes
                    begin = b.load(_at(b, start, offset, floats), align=4)
                    products = kind.floats(b, totals[p * tile.vectors + v])
                    total = b.fadd(begin, b.fmul(products, factors))
                    b.store(total, _at(b, sums, offset, floats), align=4)
                sums = b.add(sums, stride)
            step = integer(8 * tile.pixels)
            return b.add(windows, step), b.add(starts, step), sums

        loop(b, integer(0), size, tile.pixels, (windows, starts, sums), multiply)

    kind = tile.kind
    shape = f"{kind.lanes}_{tile.pixels}x{tile.vectors}"
    emit.__qualname__ = f"{type(kind).__name__.lower()}_{shape}"
    return function(emitter(emit), *[types.int64] * 10, types.float32)


@emitter
def add_products(
    b: Any,
    multiply: Any,
    size: Any,
    image: Any,
    windows: Any,
    weights: Any,
    offsets: Any,
    items: Any,
    starts: Any,
    column: Any,
    sums: Any,
    stride: Any,
    factor: Any,
) -> None:
    """Write `starts` plus `factor` times the products, by the function of a tile.

    There are `size` pixels, and a tile that is not full goes beyond. Their windows begin at
    `image` plus one of `windows`, and the items `offsets` bytes later. `weights` is a
    panel: (item, channel). `starts` are the addresses of rows of floats, in which `column`
    bytes precede those of the panel. `sums` is the result: (pixel, channel), with `stride`
    bytes between pixels.
    """
    numbers = size, image, windows, weights, offsets, items, starts, column, sums, stride
    call(b, multiply, *numbers, factor)


def _products(
    b: Any, tile: Tile, begins: list[Any], weights: Any, offsets: Any, items: Any
) -> list[Any]:
    """Emit the totals of a tile: (pixel, register). Windows begin at `begins`."""
    kind, item = tile.kind, np.dtype(tile.kind.item)
    pixels, vectors = range(tile.pixels), range(tile.vectors)
    element = _F32 if item.kind == "f" else ir.IntType(8 * item.itemsize)
    size = item.itemsize * kind.lanes

    def multiply(k: Any, *before: Any) -> tuple[Any, ...]:
        offset = b.load(b.gep(b.inttoptr(offsets, _I64.as_pointer()), [k]))
        row = b.add(weights, b.mul(k, integer(tile.vectors * size)))
        registers = [
            b.load(_at(b, row, v * size, kind.vector), align=item.itemsize) for v in vectors
        ]
        after = []
        # One pixel after the other, so that one register is enough for their factors.
        for p in pixels:
            factor = kind.factor(b, b.load(_at(b, b.add(begins[p], offset), 0, element)))
            for v in vectors:
                after.append(
                    kind.add(b, before[p * tile.vectors + v], factor, registers[v])
                )
        return tuple(after)

    def products(first: Any, last: Any) -> list[Any]:
        zeros = (ir.Constant(kind.vector, None),) * (tile.pixels * tile.vectors)
        return loop(b, first, last, 1, zeros, multiply)

    def part(longest: int, first: Any, *totals: Any) -> tuple[Any, ...]:
        limit = b.add(first, integer(longest))
        last = b.select(b.icmp_signed("<", limit, items), limit, items)
        pairs = zip(totals, products(first, last), strict=True)
        return tuple(kind.add_sums(b, total, sums) for total, sums in pairs)

    if kind.longest is None:
        return products(integer(0), items)
    zeros = (ir.Constant(kind.total, None),) * (tile.pixels * tile.vectors)
    parts = functools.partial(part, kind.longest)
    return loop(b, integer(0), items, kind.longest, zeros, parts)


def _at(b: Any, address: Any, offset: int, kind: Any) -> Any:
    """A pointer to a value at an address."""
    return b.inttoptr(
        b.add(address, integer(offset)) if offset else address, kind.as_pointer()
    )


def _function(b: Any, name: str, result: Any, arguments: list[Any]) -> Any:
    declared = b.module.globals.get(name)
    return declared or ir.Function(b.module, ir.FunctionType(result, arguments), name)


def _rows(module: Any) -> Any:
    """A table: in row i, at place j, the number of bits that differ between i and j."""
    name = "qframe_packed.rows"
    if name not in module.globals:
        data = bytearray((i ^ j).bit_count() for i in range(16) for j in range(16))
        rows = ir.GlobalVariable(module, ir.ArrayType(_I8, 256), name)
        rows.initializer = ir.Constant(rows.type.pointee, data)
        rows.linkage, rows.global_constant, rows.align = "internal", True, 16
    return module.globals[name]


def _tiles() -> list[Tile]:
    """Tiles for this processor: for bits, then for floats, each from narrow to wide."""
    has = processor.FEATURES.__contains__
    lookup = next((n for f, n in _SHUFFLES if has(f)), None)
    if has("avx512vpopcntdq") or lookup is None:
        lanes = 8 if has("avx512vpopcntdq") else 2
        bits: Kind = Popcount(lanes, np.uint64, 64)
    else:
        bits = Lookup(lookup, np.uint8, 4, _MOST_LOOKUPS)
    floats = Floats(processor.FLOATS, np.float32, 32)
    # As many sums as there are registers, except those of the factors.
    sizes = ((8, 1), (4, 2), (4, 4)) if has("avx512f") else ((8, 1), (6, 2))
    return [Tile(kind, *size) for kind in (bits, floats) for size in sizes]


_SHUFFLES = (("avx512bw", 64), ("avx2", 32), ("ssse3", 16))
TILES = _tiles()
BITS, FLOATS = TILES[0].kind, TILES[-1].kind
# The bits of a pixel are padded to whole items.
ITEM_BYTES = max(BITS.bits // 8, 1)
