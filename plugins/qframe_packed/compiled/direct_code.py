"""The LLVM code of `direct`: chunks of pixels, panels of channels, and tiles of both."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

from llvmlite import ir

from qframe_packed.compiled.finishing_code import Emission
from qframe_packed.compiled.rounding import LANES
from qframe_packed.compiled.tiles import Tile, totals_of
from qframe_packed.compiled.vectors import (
    emitter,
    integer,
    load,
    loop,
    loop_until,
    move,
    shuffled,
    store,
)

_I64, _I32 = ir.IntType(64), ir.IntType(32)
# Pixels that use the weights of a panel, one tile after the other.
_CHUNK = 64


def size_of(form: str) -> int:
    """Bytes of a result."""
    return 1 if form == "codes" else 4


def chunk_of(tile: Tile, pooled: int) -> int:
    """The pixels of a chunk: whole tiles."""
    step = step_of(tile, pooled)
    return -(-_CHUNK // step) * step


def step_of(tile: Tile, pooled: int) -> int:
    """The pixels of a tile: whole windows of a pool."""
    return max(1, tile.pixels // pooled) * pooled


class _Panel:
    """The code for the output channels of a panel.

    Args:
        b: the builder.
        p: the fields of a `Direct`.
        tile: by which its pixels are multiplied.
        pooled: see `Direct`.
        single: whether a pixel that is left alone needs no whole tile.
        emission: the code that finishes sums.
        index: number of the panel.
    """

    def __init__(
        self,
        b: Any,
        p: Any,
        tile: Tile,
        pooled: int,
        single: bool,
        emission: Emission,
        index: Any,
    ) -> None:
        self._b, self._p, self._tile, self._pooled = b, p, tile, pooled
        self._single = single
        self._emission, self._size = emission, size_of(emission.form)
        place = b.mul(index, integer(8))
        self._column, self._room, self._shift = (
            load(b, _I64, b.add(part, place), align=8)
            for part in (p.columns, p.rooms, p.shifts)
        )
        self._weights = b.add(p.weights, b.mul(index, p.panel_bytes))
        self._row = tile.channels * self._size
        self._is_whole = b.icmp_signed(">=", self._room, integer(tile.channels))
        self._before = b.mul(self._column, integer(self._size))

    def multiply(self, count: Any, outs: Any) -> None:
        """Emit the results of pixels, whose addresses are at `outs`."""
        b, step = self._b, step_of(self._tile, self._pooled)
        tiles, last = functools.partial(self._tiles, step, outs), count
        if self._single:
            rest = b.srem(count, integer(step))
            last = b.sub(count, b.zext(b.icmp_signed("==", rest, integer(1)), _I64))
        loop(b, integer(0), last, step, (), tiles)
        if self._single:
            loop(b, last, count, 1, (), functools.partial(self._tiles, 1, outs))
        with b.if_then(b.not_(self._is_whole)):
            copy = functools.partial(self._copy, outs)
            loop(b, integer(0), count, self._pooled, (), copy)

    def _tiles(self, count: int, outs: Any, index: Any) -> tuple[Any, ...]:
        b, p, tile, pooled = self._b, self._p, self._tile, self._pooled
        kind: Any = tile.kind
        places = [b.mul(b.add(index, integer(i)), integer(8)) for i in range(count)]
        begins = [
            b.add(load(b, _I64, b.add(p.addresses, place), align=8), self._shift)
            for place in places
        ]
        totals = totals_of(b, tile, begins, self._weights, p.offsets, p.items)
        column = b.mul(self._column, integer(4))
        rows = [
            [
                kind.integers(b, total, b.add(start, integer(4 * v * kind.lanes)))
                for v, total in enumerate(totals[i : i + tile.vectors])
            ]
            for i in range(0, len(totals), tile.vectors)
            for start in (b.add(p.starts, column),)
        ]
        if pooled > 1:
            rows = [self._largest(rows[i : i + pooled]) for i in range(0, count, pooled)]
        operands = self._emission.operands(self._column, tile.channels // LANES)
        for i, row in enumerate(rows):
            sums = [part for x in row for part in _parts(b, kind.floats(b, x))]
            result = load(b, _I64, b.add(outs, places[i * pooled]), align=8)
            result = b.add(result, self._before)
            kept = self._kept(b.add(index, integer(i * pooled)))
            place = b.select(self._is_whole, result, kept)
            self._emission.finish(sums, operands, place, place)
        return ()

    def _largest(self, rows: list[list[Any]]) -> list[Any]:
        """The largest of the sums of pixels, or the smallest where signs turn."""
        b, found = self._b, []
        for v, sums in enumerate(zip(*rows, strict=True)):
            kind = sums[0].type
            offset = b.mul(b.add(self._column, integer(v * kind.count)), integer(4))
            signs = load(b, kind, b.add(self._p.signs, offset))
            mask = b.ashr(signs, ir.Constant(kind, [31] * kind.count))
            turned = [b.xor(x, mask) for x in sums]
            largest = functools.reduce(
                lambda x, y: b.select(b.icmp_signed(">", x, y), x, y), turned
            )
            found.append(b.xor(largest, mask))
        return found

    def _kept(self, index: Any) -> Any:
        """Where the results of a pixel are kept, with room for a whole panel."""
        return self._b.add(self._p.results, self._b.mul(index, integer(self._row)))

    def _copy(self, outs: Any, index: Any) -> tuple[Any, ...]:
        b = self._b
        out = load(b, _I64, b.add(outs, b.mul(index, integer(8))), align=8)
        size = b.mul(self._room, integer(self._size))
        move(b, b.add(out, self._before), self._kept(index), size)
        return ()


def _parts(b: Any, register: Any) -> Iterable[Any]:
    """A register in parts that are finished."""
    lanes = [*range(register.type.count)]
    if len(lanes) == LANES:
        return [register]
    parts = [lanes[i : i + LANES] for i in range(0, len(lanes), LANES)]
    return [shuffled(b, register, part) for part in parts]


def _address(
    b: Any, p: Any, first: Any, count: Any, outs: Any, step: int, again: int
) -> None:
    """Write the addresses of the windows and of the results of a chunk.

    A tile that is not full repeats the last `again` pixels, with the same results.
    """
    image = p.image
    sample, pixel = b.sdiv(first, p.pixels), b.srem(first, p.pixels)
    bytes_ = b.mul(b.mul(image.rows, image.columns), image.pixel_bytes)
    # One of both is zero.
    out = b.add(p.finish.codes, p.finish.floats)

    def one(index: Any, pixel: Any, source: Any, result: Any) -> tuple[Any, ...]:
        place, offset = b.mul(index, integer(8)), b.mul(pixel, integer(8))
        window = load(b, _I64, b.add(p.windows, offset), align=8)
        store(b, b.add(source, window), b.add(p.addresses, place), align=8)
        inside = load(b, _I64, b.add(p.outs, offset), align=8)
        store(b, b.add(result, inside), b.add(outs, place), align=8)
        pixel = b.add(pixel, integer(1))
        ends = b.icmp_signed("==", pixel, p.pixels)
        return (
            b.select(ends, integer(0), pixel),
            b.select(ends, b.add(source, bytes_), source),
            b.select(ends, b.add(result, p.result_bytes), result),
        )

    source = b.add(p.source, b.mul(sample, bytes_))
    result = b.add(out, b.mul(sample, p.result_bytes))
    loop(b, integer(0), count, 1, (pixel, source, result), one)

    def repeat(index: Any) -> tuple[Any, ...]:
        for part in (p.addresses, outs):
            place = b.add(part, b.mul(index, integer(8)))
            before = b.sub(place, integer(8 * again))
            store(b, load(b, _I64, before, align=8), place, align=8)
        return ()

    missing = b.sub(integer(step), b.srem(count, integer(step)))
    whole = b.add(count, b.srem(missing, integer(step)))
    loop(b, count, whole, 1, (), repeat)


@functools.cache
def body(tile: Tile, pooled: int, single: bool, vector: bool, form: str) -> Any:
    """The emitter for a tile, a pool, and a form of results.

    Args:
        tile: by which pixels are multiplied.
        pooled: see `Direct`.
        single: whether a pixel that is left alone needs no whole tile.
        vector: whether a sample has one pixel. Its parts are panels then.
        form: of the results.
    """
    step, size = step_of(tile, pooled), chunk_of(tile, pooled)

    def emit(b: Any, begin: Any, end: Any, p: Any) -> None:
        emission = Emission(b, p.finish, form)
        outs = b.add(p.addresses, integer(8 * size))

        def smaller(x: Any, y: Any) -> Any:
            return b.select(b.icmp_signed("<", x, y), x, y)

        def chunk(part: Any, turned: Any) -> tuple[Any, ...]:
            rest = b.sub(end, part)
            if vector:
                first, low = b.sdiv(part, p.panels), b.srem(part, p.panels)
                samples = smaller(b.sdiv(rest, p.panels), integer(size))
                is_part = b.or_(
                    b.icmp_signed("!=", low, integer(0)),
                    b.icmp_signed("==", samples, integer(0)),
                )
                count = b.select(is_part, integer(1), samples)
                high = smaller(p.panels, b.add(low, rest))
                done = b.mul(count, b.sub(high, low))
            else:
                first, low, high = b.mul(part, integer(pooled)), integer(0), p.panels
                done = smaller(rest, integer(size // pooled))
                count = b.mul(done, integer(pooled))
            _address(b, p, first, count, outs, step, pooled)
            last = b.add(low, b.sub(high, integer(1)))

            def columns(index: Any) -> tuple[Any, ...]:
                index = b.select(turned, b.sub(last, index), index)
                panel = _Panel(b, p, tile, pooled, single, emission, index)
                panel.multiply(count, outs)
                return ()

            loop(b, low, high, 1, (), columns)
            return b.add(part, done), b.not_(turned)

        # Panels are read from the last to the first after each turn, since the cache still
        # has those that were read last where it does not hold them all. It depends on the
        # order of threads, and no result does.
        turns = b.inttoptr(p.turns, _I64.as_pointer())
        turned = b.icmp_signed("!=", b.load_atomic(turns, "monotonic", 8), integer(0))
        (turned,) = loop_until(b, begin, end, (turned,), chunk)
        b.store_atomic(b.zext(turned, _I64), turns, "monotonic", 8)

    kinds = {"maxima": pooled > 1, "single": single, "vector": vector}
    parts = [tile.name, form, *(name for name, present in kinds.items() if present)]
    emit.__qualname__ = "_".join(parts)
    return emitter(emit)
