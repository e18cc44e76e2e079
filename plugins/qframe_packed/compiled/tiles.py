"""Sums of products of a few pixels with many output channels, kept in registers.

They are LLVM vector code, so that they become what the machine has. Three kinds: bits by
population counts, bits by lookups in registers where those are quicker (a byte shuffle
finds how many of 4 bits differ, for as many channels as a register has bytes), and floats.
"""

from __future__ import annotations

import functools
from typing import Any

import attrs
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from qframe_packed.compiled import processor
from qframe_packed.compiled.vectors import integer, loop, shuffled, splat

_I8, _I16, _I32, _I64 = (ir.IntType(bits) for bits in (8, 16, 32, 64))
_F32 = ir.FloatType()
# Bytes that count up to 4 at a time stay below 256.
_MOST_LOOKUPS = 60


@attrs.frozen
class Kind:
    """How one register of products is computed.

    Args:
        lanes: the output channels in a register.
        item: the dtype of what a pixel gives at once.
        bits: how many of its bits count; for floats 32.
        longest: the items after which the sums are put aside; None where never.
    """

    lanes: int
    item: Any
    bits: int
    longest: int | None = None

    @property
    def vector(self) -> Any:
        """The type of a register of weights, and of sums."""
        raise NotImplementedError

    @property
    def total(self) -> Any:
        """The type of the sums that were put aside."""
        return self.vector

    def left(self, b: Any, item: Any) -> Any:
        """The register for an item of a pixel."""
        return splat(b, item, self.lanes)

    def add(self, b: Any, sums: Any, left: Any, weights: Any) -> Any:
        """The sums with one product more."""
        raise NotImplementedError

    def put_aside(self, b: Any, total: Any, sums: Any) -> Any:
        """The total with sums more."""
        raise NotImplementedError

    def floats(self, b: Any, total: Any) -> Any:
        """The total as floats."""
        return b.uitofp(total, ir.VectorType(_F32, self.lanes))


class Popcount(Kind):
    """64 bits for each lane, by an instruction or by what LLVM makes of it."""

    @property
    def vector(self) -> Any:
        return ir.VectorType(_I64, self.lanes)

    def add(self, b: Any, sums: Any, left: Any, weights: Any) -> Any:
        name = f"llvm.ctpop.v{self.lanes}i64"
        count = _function(b, name, self.vector, [self.vector])
        return b.add(sums, b.call(count, [b.xor(left, weights)]))

    def floats(self, b: Any, total: Any) -> Any:
        return super().floats(b, b.trunc(total, ir.VectorType(_I32, self.lanes)))


class Lookup(Kind):
    """4 bits for each lane; an item is their number times 16, the place of a row."""

    @property
    def vector(self) -> Any:
        return ir.VectorType(_I8, self.lanes)

    @property
    def total(self) -> Any:
        return ir.VectorType(_I16, self.lanes)

    def left(self, b: Any, item: Any) -> Any:
        row = b.gep(_rows(b.module), [integer(0), b.zext(item, _I64)], inbounds=True)
        found = b.load(b.bitcast(row, ir.VectorType(_I8, 16).as_pointer()), align=16)
        return shuffled(b, found, [lane % 16 for lane in range(self.lanes)])

    def add(self, b: Any, sums: Any, left: Any, weights: Any) -> Any:
        name = {
            16: "llvm.x86.ssse3.pshuf.b.128",
            32: "llvm.x86.avx2.pshuf.b",
            64: "llvm.x86.avx512.pshuf.b.512",
        }[self.lanes]
        shuffle = _function(b, name, self.vector, [self.vector] * 2)
        return b.add(sums, b.call(shuffle, [left, weights]))

    def put_aside(self, b: Any, total: Any, sums: Any) -> Any:
        return b.add(total, b.zext(sums, self.total))

    def floats(self, b: Any, total: Any) -> Any:
        return super().floats(b, b.zext(total, ir.VectorType(_I32, self.lanes)))


class Floats(Kind):
    """A float for each lane."""

    @property
    def vector(self) -> Any:
        return ir.VectorType(_F32, self.lanes)

    def add(self, b: Any, sums: Any, left: Any, weights: Any) -> Any:
        # Rounded once where the processor does that in one instruction.
        name = f"llvm.fmuladd.v{self.lanes}f32"
        fma = _function(b, name, self.vector, [self.vector] * 3)
        return b.call(fma, [left, weights, sums])

    def floats(self, b: Any, total: Any) -> Any:
        return total


@attrs.frozen
class Tile:
    """So many pixels by so many registers of output channels."""

    kind: Kind
    pixels: int
    vectors: int

    @property
    def channels(self) -> int:
        """The output channels of a tile."""
        return self.vectors * self.kind.lanes


def _tiles() -> list[Tile]:
    """Those for this machine: for bits, then for floats, each from narrow to wide."""
    has = processor.FEATURES.__contains__
    lookup = next((n for f, n in _SHUFFLES if has(f)), None)
    if has("avx512vpopcntdq") or lookup is None:
        lanes = 8 if has("avx512vpopcntdq") else 2
        bits: Kind = Popcount(lanes, np.uint64, 64)
    else:
        bits = Lookup(lookup, np.uint8, 4, _MOST_LOOKUPS)
    floats = Floats(processor.FLOATS, np.float32, 32)
    # As many sums as there are registers, less those that hold what is multiplied.
    sizes = ((8, 1), (4, 2), (4, 4)) if has("avx512f") else ((8, 1), (6, 2))
    return [Tile(kind, *size) for kind in (bits, floats) for size in sizes]


_SHUFFLES = (("avx512bw", 64), ("avx2", 32), ("ssse3", 16))
TILES = _tiles()
BITS, FLOATS = TILES[0].kind, TILES[-1].kind


def tile_for(kind: Kind, outputs: int) -> int:
    """The number of the narrowest tile that has room for these output channels."""
    mine = [i for i, tile in enumerate(TILES) if tile.kind is kind]
    return next((i for i in mine if TILES[i].channels >= outputs), mine[-1])


@intrinsic
def add_products(
    typing: Any,
    number: Any,
    image: Any,
    places: Any,
    weights: Any,
    items: Any,
    count: Any,
    starts: Any,
    column: Any,
    sums: Any,
    stride: Any,
    factor: Any,
) -> Any:
    """Write `starts` and `factor` times the products of the tile of this number.

    All but the factor are integers or addresses: of the `image`; `places`, of the byte
    there at which each window begins; `weights` (item, channel); `items`, of the bytes
    from there to each of the `count` items; `starts`, of the address of each row of
    float32 starts, and in it the byte of the first `column`; `sums` (pixel, channel) to
    be written, whose rows are `stride` bytes apart.
    """

    def codegen(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
        number, *rest = arguments
        done = b.append_basic_block("done")
        blocks = [b.append_basic_block(f"tile{i}") for i in range(len(TILES))]
        switch = b.switch(number, done)
        for i, (block, tile) in enumerate(zip(blocks, TILES, strict=True)):
            switch.add_case(integer(i), block)
            b.position_at_end(block)
            _emit(b, tile, *rest)
            b.branch(done)
        b.position_at_end(done)
        return context.get_dummy_value()

    return types.void(*[types.intp] * 10, types.float32), codegen


def _emit(
    b: Any,
    tile: Tile,
    image: Any,
    places: Any,
    weights: Any,
    items: Any,
    count: Any,
    starts: Any,
    column: Any,
    sums: Any,
    stride: Any,
    factor: Any,
) -> None:
    kind, item = tile.kind, np.dtype(tile.kind.item)
    pixels, vectors = range(tile.pixels), range(tile.vectors)
    element = _F32 if item.kind == "f" else ir.IntType(8 * item.itemsize)
    size = item.itemsize * kind.lanes
    windows = [b.add(image, b.load(_at(b, places, 8 * p, _I64))) for p in pixels]

    def multiplied(k: Any, *old: Any) -> tuple[Any, ...]:
        offset = b.load(b.gep(b.inttoptr(items, _I64.as_pointer()), [k]))
        row = b.add(weights, b.mul(k, integer(tile.vectors * size)))
        held = [
            b.load(_at(b, row, v * size, kind.vector), align=item.itemsize) for v in vectors
        ]
        new = []
        # One pixel after the other, so that a register holds one of them and not all.
        for p in pixels:
            left = kind.left(b, b.load(_at(b, b.add(windows[p], offset), 0, element)))
            for v in vectors:
                new.append(kind.add(b, old[p * tile.vectors + v], left, held[v]))
        return tuple(new)

    def products(first: Any, last: Any) -> list[Any]:
        zeros = (ir.Constant(kind.vector, None),) * (tile.pixels * tile.vectors)
        return loop(b, first, last, 1, zeros, multiplied)

    def part(longest: int, first: Any, *totals: Any) -> tuple[Any, ...]:
        limit = b.add(first, integer(longest))
        last = b.select(b.icmp_signed("<", limit, count), limit, count)
        found = zip(totals, products(first, last), strict=True)
        return tuple(kind.put_aside(b, total, sums) for total, sums in found)

    if kind.longest is None:
        totals = products(integer(0), count)
    else:
        zeros = (ir.Constant(kind.total, None),) * (tile.pixels * tile.vectors)
        parts = functools.partial(part, kind.longest)
        totals = loop(b, integer(0), count, kind.longest, zeros, parts)
    floats = ir.VectorType(_F32, kind.lanes)
    factors = splat(b, factor, kind.lanes)
    for p in pixels:
        start = b.add(b.load(_at(b, starts, 8 * p, _I64)), column)
        line = b.add(sums, b.mul(stride, integer(p)))
        for v in vectors:
            at = 4 * v * kind.lanes
            begin = b.load(_at(b, start, at, floats), align=4)
            found = b.fmul(kind.floats(b, totals[p * tile.vectors + v]), factors)
            b.store(b.fadd(begin, found), _at(b, line, at, floats), align=4)


def _at(b: Any, address: Any, offset: int, kind: Any) -> Any:
    """A pointer to what is at an address."""
    return b.inttoptr(
        b.add(address, integer(offset)) if offset else address, kind.as_pointer()
    )


def _function(b: Any, name: str, returned: Any, taken: list[Any]) -> Any:
    known = b.module.globals.get(name)
    return known or ir.Function(b.module, ir.FunctionType(returned, taken), name)


def _rows(module: Any) -> Any:
    """In row i, at place j, how many bits i and j differ in."""
    name = "qframe_packed.rows"
    if name not in module.globals:
        data = bytearray((i ^ j).bit_count() for i in range(16) for j in range(16))
        rows = ir.GlobalVariable(module, ir.ArrayType(_I8, 256), name)
        rows.initializer = ir.Constant(rows.type.pointee, data)
        rows.linkage, rows.global_constant, rows.align = "internal", True, 16
    return module.globals[name]
