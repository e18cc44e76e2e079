"""Matrix products of the windows of an image with weights, and their epilogue."""

from __future__ import annotations

import math
from typing import Any

import attrs
import numba
from llvmlite import ir

from qframe_packed.compiled.addresses import floats_at, integers_at
from qframe_packed.compiled.dots import Dot, Packed
from qframe_packed.compiled.epilogue import Epilogue, apply
from qframe_packed.compiled.kinds import Kind, Lookup
from qframe_packed.compiled.layout import Image
from qframe_packed.compiled.memory import Buffer
from qframe_packed.compiled.parameters import REGISTERS, Address, Parameters
from qframe_packed.compiled.peaks import peak_of
from qframe_packed.compiled.tiles import BITS, TILES, add_products
from qframe_packed.compiled.vectors import (
    LONGEST,
    copy,
    emitter,
    integer,
    load,
    loop,
    over_channels,
    over_rows,
    padded,
    store,
    whole_vectors,
)

# Bytes of the pixels that an epilogue works on at a time, to stay in the cache.
NEAR = 2**14


def label_of(kind: Kind) -> str:
    """The name of products of codes or floats in summaries."""
    if not isinstance(kind, Dot):
        return f"float x {kind.lanes}"
    bits = f", {kind.weight_bits} bit" if isinstance(kind, Packed) else ""
    return f"codes x {kind.lanes}{bits}"


@emitter
def _largest(
    b: Any, values: Any, width: Any, size: Any, channels: Any, pooled: Any, signs: Any
) -> None:
    """Replace pixels by the largest ones of `pooled`, or the smallest where signs turn."""
    row = b.mul(width, integer(4))

    def body(kind: Any, index: Any) -> None:
        offset = b.mul(index, integer(4))
        numbers = ir.VectorType(ir.IntType(32), kind.count)
        turned = load(b, numbers, b.add(signs, offset))

        def turn(x: Any, kind: Any) -> Any:
            return b.bitcast(b.xor(b.bitcast(x, numbers), turned), kind)

        def window(source: Any, out: Any) -> None:
            def pixel(index: Any, address: Any, largest: Any) -> tuple[Any, ...]:
                x = turn(load(b, kind, address), kind)
                found = b.select(b.fcmp_ordered(">", x, largest), x, largest)
                return b.add(address, row), found

            first = b.add(source, row), turn(load(b, kind, source), kind)
            _, largest = loop(b, integer(1), pooled, 1, first, pixel)
            store(b, turn(largest, kind), out)

        start = b.add(values, offset)
        over_rows(b, size, (start, start), (b.mul(row, pooled), row), window)

    over_channels(b, whole_vectors(b, channels), body)


class Products(Parameters):
    """A kernel of products of the windows of an image with weights, by a tile."""

    pixels: int
    items: int
    tile: int
    channels: int
    pooled: int

    @property
    def peak(self) -> float:
        return peak_of(TILES[self.tile].kind) / self.pairs

    @property
    def pairs(self) -> int:
        """The planes of the image times those of the weights."""
        return 1

    @property
    def numbers(self) -> int:
        return self.pixels * self.channels

    @property
    def parts(self) -> int:
        return self.pixels // self.pooled

    @property
    def cost(self) -> float:
        kind = TILES[self.tile].kind
        registers = self.items * self.pairs * self.numbers / (kind.lanes * kind.sharing)
        return super().cost + registers / REGISTERS


@attrs.frozen(eq=False)
class Gemm(Products):
    """Products, a chunk of pixels at a time, and the epilogue of each chunk.

    The weights are split into panels, as wide as a tile has output channels. Integers are
    sums of planes of bits, so that a product is the sum of those of each plane of the
    image with each plane of the weights.
    """

    source: Address
    image: Image
    windows: Address  # byte where the window of each pixel begins
    pixels: int  # of a sample
    offsets: Address  # bytes from the beginning of a window to each of its items
    items: int  # of a window
    weights: Address  # (plane, panel, item, channel)
    panel_bytes: int
    panels: int
    columns: Address  # first output channel of each panel
    shifts: Address  # bytes to the first item of each panel, for the groups of channels
    factors: Address  # (plane of the image, plane of the weights)
    planes: int  # of the image; 1 for floats
    weight_planes: int
    starts: Address  # numbers from which sums start: (class, channel)
    classes: Address  # of each pixel
    tile: int  # place in TILES
    multiply: Address  # function of the tile
    tile_pixels: int
    values: Address  # sums of a chunk: (pixel, channel)
    addresses: Address  # window, starts and sums of each pixel of a chunk
    chunk: int  # pixels
    width: int  # floats of a pixel in `values` and `starts`
    channels: int  # output channels
    epilogue: Epilogue
    pooled: int = 1  # pixels, one after the other, of which the largest sum is taken
    signs: Address = 0  # of each channel: the sign bit if the smallest sum is taken

    @property
    def label(self) -> str:
        kind = TILES[self.tile].kind
        if kind is not BITS:
            return label_of(kind)
        name = "lookup" if isinstance(kind, Lookup) else "popcount"
        return f"{name} {self.planes} x {self.weight_planes}"

    @property
    def pairs(self) -> int:
        return self.planes * self.weight_planes

    @property
    def grain(self) -> int:
        whole = self.chunk // self.pooled
        tile = math.lcm(self.tile_pixels, self.pooled) // self.pooled
        return whole if 4 * whole <= self.parts else tile

    @staticmethod
    @numba.njit
    def run(begin: int, end: int, p: Any) -> None:
        count, width, chunk, values = p.pixels, p.width, p.chunk, p.values
        multiply, tile_pixels, items = p.multiply, p.tile_pixels, p.items
        plane_bytes = p.image.rows * p.image.columns * p.image.pixel_bytes
        factors, columns = floats_at(p.factors), integers_at(p.columns)
        shifts = integers_at(p.shifts)
        windows, classes = integers_at(p.windows), integers_at(p.classes)
        begins, starts = p.addresses, p.addresses + 8 * chunk
        sums = p.addresses + 16 * chunk
        epilogue = p.epilogue
        for i in range(chunk):
            integers_at(sums)[i] = values + 4 * i * width
        total = end * p.pooled
        for first in range(begin * p.pooled, total, chunk):
            size = min(chunk, total - first)
            sample, pixel = first // count, first % count
            for i in range(size):
                window = p.source + sample * p.planes * plane_bytes + windows[pixel]
                integers_at(begins)[i] = window
                integers_at(starts)[i] = p.starts + 4 * classes[pixel] * width
                pixel += 1
                if pixel == count:
                    sample, pixel = sample + 1, 0
            # A tile that is not full repeats the last pixel, and nothing reads the result.
            for i in range(size, min(chunk, size + tile_pixels - 1)):
                integers_at(begins)[i] = integers_at(begins)[size - 1]
                integers_at(starts)[i] = integers_at(starts)[size - 1]
            for panel in range(p.panels):
                column = 4 * columns[panel]
                for plane in range(p.planes):
                    image = shifts[panel] + plane * plane_bytes
                    for weight_plane in range(p.weight_planes):
                        place = weight_plane * p.panels + panel
                        weights = p.weights + place * p.panel_bytes
                        factor = factors[plane * p.weight_planes + weight_plane]
                        before = sums if plane + weight_plane else starts
                        add_products(
                            multiply,
                            size,
                            image,
                            begins,
                            weights,
                            p.offsets,
                            items,
                            before,
                            column,
                            values + column,
                            4 * width,
                            factor,
                        )
            if p.pooled > 1:
                first, size = first // p.pooled, size // p.pooled
                _largest(values, width, size, p.channels, p.pooled, p.signs)
            apply(values, width, first, size, p.channels, epilogue.table, epilogue.count)


@attrs.frozen(eq=False)
class Pointwise(Parameters):
    """An epilogue that follows no product, a chunk of pixels at a time."""

    source: Address
    pixels: int  # of a sample
    channels: int
    values: Address  # a copy of a chunk, to work on
    chunk: int  # pixels
    width: int  # floats of a pixel in `values`
    epilogue: Epilogue
    label = "chain"

    @property
    def parts(self) -> int:
        return self.pixels

    @classmethod
    def of(cls, source: Buffer, pixels: int, channels: int) -> Pointwise:
        """The kernel for the pixels of a tensor."""
        width = padded(channels)
        chunk = max(1, NEAR // (4 * width))
        values = Buffer(0, 4 * chunk * width)
        return cls(source, pixels, channels, values, chunk, width, Epilogue())

    @staticmethod
    @numba.njit
    def run(begin: int, end: int, p: Any) -> None:
        channels, width, epilogue = p.channels, p.width, p.epilogue
        # Other steps may read the source again, so only stages that just read work there;
        # and they read whole registers, so that all that they read has to be there.
        direct = channels % LONGEST == 0 and not epilogue.changes_values
        for first in range(begin, end, p.chunk):
            size = min(p.chunk, end - first)
            source = p.source + 4 * first * channels
            values = source if direct else p.values
            if not direct:
                for i in range(size):
                    copy(values + 4 * i * width, source + 4 * i * channels, channels)
            apply(values, width, first, size, channels, epilogue.table, epilogue.count)
