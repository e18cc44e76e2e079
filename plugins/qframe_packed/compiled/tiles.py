"""Tiles of matrix products: a few pixels by many output channels, kept in registers.

A tile is LLVM vector code, which becomes instructions of any processor. There are four
kinds: bits by population counts, bits by lookups in registers where those are quicker (a
byte shuffle finds how many of 4 bits differ, for as many channels as a register has bytes),
codes of 8 bits by dot products of 4 of them, and floats.
"""

from __future__ import annotations

import functools
from typing import Any

import attrs
import numpy as np
from llvmlite import ir
from numba import types

from qframe_packed.compiled import processor
from qframe_packed.compiled.dots import (
    ArmDot,
    Dot,
    Packed,
    Pairs,
    SignedBytes,
    SignedDot,
)
from qframe_packed.compiled.functions import Function, function
from qframe_packed.compiled.kinds import Count, Floats, Kind, Lookup, Popcount
from qframe_packed.compiled.vectors import at, call, emitter, integer, loop

_Sizes = tuple[tuple[int, int], ...]
_I64, _F32 = ir.IntType(64), ir.FloatType()
# Sums in bytes, to which each lookup adds up to 4 and each count up to 8, stay below 256.
_MOST_LOOKUPS, _MOST_COUNTS = 60, 31


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

    @property
    def name(self) -> str:
        """The part of the names of functions that says the tile."""
        return f"{self.kind.name}_{self.kind.lanes}_{self.pixels}x{self.vectors}"


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
        kind = tile.kind

        def multiply(
            count: int, index: Any, windows: Any, starts: Any, sums: Any
        ) -> tuple[Any, ...]:
            pixels = range(count)
            begins = [b.add(image, b.load(at(b, windows, 8 * p, _I64))) for p in pixels]
            totals = totals_of(b, tile, begins, weights, offsets, items)
            for p in pixels:
                start = b.add(b.load(at(b, starts, 8 * p, _I64)), column)
                for v in range(tile.vectors):
                    offset = integer(4 * v * kind.lanes)
                    total = totals[p * tile.vectors + v]
                    result = kind.result(b, total, b.add(start, offset), factor)
                    b.store(result, at(b, b.add(sums, offset), 0, result.type), align=4)
                sums = b.add(sums, stride)
            step = integer(8 * count)
            return b.add(windows, step), b.add(starts, step), sums

        # A pixel alone, such as a row of a dense layer, needs no whole tile.
        rest = b.srem(size, integer(tile.pixels))
        alone = b.zext(b.icmp_signed("==", rest, integer(1)), _I64)
        first, carried = integer(0), (windows, starts, sums)
        for count, last in ((tile.pixels, b.sub(size, alone)), (1, size)):
            body = functools.partial(multiply, count)
            carried = tuple(loop(b, first, last, count, carried, body))
            first = b.sub(size, alone)

    emit.__qualname__ = tile.name
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
    panel: (item, channel). `starts` are the addresses of rows of numbers, in which `column`
    bytes precede those of the panel: floats, or integers for codes, whose factor is 1.
    `sums` is the result: (pixel, channel), floats, with `stride` bytes between pixels.
    """
    numbers = size, image, windows, weights, offsets, items, starts, column, sums, stride
    call(b, multiply, *numbers, factor)


def totals_of(
    b: Any, tile: Tile, begins: list[Any], weights: Any, offsets: Any, items: Any
) -> list[Any]:
    """Emit the totals of pixels: (pixel, register). Their windows begin at `begins`."""
    kind = tile.kind if len(begins) > 1 else tile.kind.alone
    item = np.dtype(kind.item)
    pixels, vectors = range(len(begins)), range(tile.vectors)
    element = _F32 if item.kind == "f" else ir.IntType(8 * item.itemsize)
    size = item.itemsize * kind.lanes

    def multiply(k: Any, *sums: Any) -> tuple[Any, ...]:
        row = b.add(weights, b.mul(k, integer(tile.vectors * size // kind.sharing)))
        registers = []
        for v in vectors:
            register = b.load(at(b, row, v * size, kind.vector), align=item.itemsize)
            registers.append(kind.weights(b, register))
        place = b.gep(b.inttoptr(offsets, _I64.as_pointer()), [k])
        for number, parts in enumerate(zip(*registers, strict=True)):
            offset = b.load(b.gep(place, [integer(number)]))
            after = []
            # One pixel after the other, so that one register is enough for their factors.
            for p in pixels:
                begin = at(b, b.add(begins[p], offset), 0, element)
                # Codes begin at any byte.
                align = 1 if isinstance(kind, Dot) else item.itemsize
                factor = kind.factor(b, b.load(begin, align=align))
                for v in vectors:
                    before = sums[p * tile.vectors + v]
                    after.append(kind.add(b, before, factor, parts[v]))
            sums = tuple(after)
        return sums

    def products(first: Any, last: Any) -> list[Any]:
        zeros = (ir.Constant(kind.sums, None),) * (len(begins) * tile.vectors)
        return loop(b, first, last, kind.sharing, zeros, multiply)

    def part(longest: int, first: Any, *totals: Any) -> tuple[Any, ...]:
        limit = b.add(first, integer(longest))
        last = b.select(b.icmp_signed("<", limit, items), limit, items)
        pairs = zip(totals, products(first, last), strict=True)
        return tuple(kind.add_sums(b, total, sums) for total, sums in pairs)

    if kind.longest is None:
        return products(integer(0), items)
    zeros = (ir.Constant(kind.total, None),) * (len(begins) * tile.vectors)
    parts = functools.partial(part, kind.longest)
    return loop(b, integer(0), items, kind.longest, zeros, parts)


def _bits() -> Kind:
    has = processor.FEATURES.__contains__
    if processor.IS_ARM:
        return Count(16, np.uint8, 8, _MOST_COUNTS)
    lookup = next((n for f, n in _SHUFFLES if has(f)), None)
    if has("avx512vpopcntdq") or lookup is None:
        return Popcount(8 if has("avx512vpopcntdq") else 2, np.uint64, 64)
    return Lookup(lookup, np.uint8, 4, _MOST_LOOKUPS)


def _codes() -> Dot:
    for feature, kind, lanes in _DOTS:
        if feature in processor.FEATURES:
            return kind(lanes, np.uint32, 32)
    other = SignedBytes if processor.IS_ARM else Pairs
    return other(processor.FLOATS, np.uint32, 32)


_DOTS = (
    ("avx512vnni", Dot, 16),
    ("avxvnni", Dot, 8),
    ("i8mm", ArmDot, 4),
    ("dotprod", SignedDot, 4),
)
_SHUFFLES = (("avx512bw", 64), ("avx2", 32), ("ssse3", 16))
BITS, CODES, FLOATS = _bits(), _codes(), Floats(processor.FLOATS, np.float32, 32)
# Codes with weights of fewer bits, the fewest first, where that has been measured.
PACKED = tuple(
    Packed(CODES.lanes, np.uint32, 32, weight_bits=bits)
    for bits in (2, 4)
    if type(CODES) is Dot
)
# Codes whose products 16 bits hold in pairs, where that is quicker.
NARROW = CODES.narrow


def _tiles() -> tuple[Tile, ...]:
    """Tiles for this processor: each kind from narrow to wide."""
    # As many sums as there are registers, except those of the factors, and of products
    # that take several instructions.
    bits: _Sizes = ((8, 1), (6, 2))
    kinds = CODES, *PACKED, *([] if NARROW is None else [NARROW])
    codes = floats = bits
    if processor.IS_ARM:
        bits, floats = ((8, 1), (8, 2)), ((8, 1), (8, 2), (4, 4))
        codes = codes if isinstance(CODES, SignedBytes) else floats
    elif "avx512f" in processor.FEATURES:
        bits = floats = ((8, 1), (4, 2), (4, 4))
        codes = ((8, 1), (8, 2), (6, 4))
    return (
        *(Tile(BITS, *size) for size in bits),
        *(Tile(kind, *size) for kind in kinds for size in codes),
        *(Tile(FLOATS, *size) for size in floats),
    )


TILES = _tiles()
# The products of planes of bits that take as long as one product of codes: as measured, or
# by the instructions for them.
MOST_PRODUCTS = 4 if "avx512vpopcntdq" in processor.FEATURES else 3
if isinstance(BITS, Lookup) and isinstance(CODES, Pairs):
    MOST_PRODUCTS = 6
if isinstance(BITS, Count):
    MOST_PRODUCTS = 12 if isinstance(CODES, SignedBytes) else 2
# The bits of a pixel are padded to whole items.
ITEM_BYTES = max(BITS.bits // 8, 1)
