"""Products of codes whose sums become codes or floats in the registers of a tile."""

from __future__ import annotations

import functools
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from qframe_packed.compiled.depthwise_codes import DepthwiseCodes
from qframe_packed.compiled.direct_code import body, chunk_of, size_of, step_of
from qframe_packed.compiled.dots import Dot
from qframe_packed.compiled.finishing import Finish
from qframe_packed.compiled.finishing_code import IN_REGISTERS
from qframe_packed.compiled.gemm import Gemm, Products, label_of
from qframe_packed.compiled.layout import Image
from qframe_packed.compiled.memory import Buffer, aligned
from qframe_packed.compiled.parameters import Address
from qframe_packed.compiled.rounding import LANES
from qframe_packed.compiled.tiles import TILES

Array = NDArray[Any]


@attrs.frozen(eq=False)
class Direct(Products):
    """A `Gemm` whose epilogue is one `Finish` of codes or floats alone."""

    source: Address
    image: Image
    windows: Address  # byte where the window of each pixel begins
    outs: Address  # byte where the result of each pixel begins
    pixels: int  # of a sample
    result_bytes: int  # of a sample
    offsets: Address  # bytes from the beginning of a window to each of its items
    items: int  # of a window
    weights: Address  # (panel, item, channel)
    panel_bytes: int
    panels: int
    columns: Address  # first output channel of each panel
    rooms: Address  # channels of each panel that are results
    shifts: Address  # bytes to the first item of each panel
    starts: Address  # integers from which sums start
    signs: Address  # see `Gemm`
    tile: int  # place in TILES
    pooled: int  # see `Gemm`
    channels: int  # output channels
    addresses: Address  # window and result of each pixel of a chunk
    results: Address  # of the pixels of a chunk, for a panel that is not full
    turns: Address  # an int64: whether the next chunk reads the last panel first
    finish: Finish

    @classmethod
    def of(cls, gemm: Gemm, finish: Finish) -> Direct:
        """The kernel for what another one does with an epilogue."""
        tile, size = TILES[gemm.tile], size_of(finish.form)
        chunk = chunk_of(tile, gemm.pooled)
        places = _places(finish.image) if size == 1 else _rows(gemm)
        result_bytes = finish.image.nbytes if size == 1 else len(places) * 4 * gemm.channels
        last = np.append(gemm.columns[1:], gemm.channels)
        return cls(
            source=gemm.source,
            image=gemm.image,
            windows=gemm.windows,
            outs=np.repeat(places, gemm.pooled),
            pixels=gemm.pixels,
            result_bytes=result_bytes,
            offsets=gemm.offsets,
            items=gemm.items,
            weights=gemm.weights,
            panel_bytes=gemm.panel_bytes,
            panels=gemm.panels,
            columns=gemm.columns,
            rooms=last - gemm.columns,
            shifts=gemm.shifts,
            starts=gemm.starts,
            signs=gemm.signs,
            tile=gemm.tile,
            pooled=gemm.pooled,
            channels=gemm.channels,
            addresses=Buffer(0, 16 * chunk),
            results=Buffer(0, chunk * tile.channels * size),
            turns=np.zeros(1, np.int64),
            finish=finish.reordered(functools.partial(_widened, gemm.width), gemm.channels),
        )

    @property
    def label(self) -> str:
        return label_of(TILES[self.tile].kind)

    @property
    def _is_vector(self) -> bool:
        """Return whether a sample has one pixel, as in a dense layer."""
        return self.pixels == 1

    @property
    def parts(self) -> int:
        return self.panels if self._is_vector else super().parts

    @property
    def grain(self) -> int:
        if self._is_vector:
            return 1
        tile = TILES[self.tile]
        chunk, step = (
            part(tile, self.pooled) // self.pooled for part in (chunk_of, step_of)
        )
        return chunk if 4 * chunk <= self.parts else step

    @property
    def body(self) -> Any:
        tile, pooled = TILES[self.tile], self.pooled
        # A row of a dense layer, or what is left of few pixels.
        single = self.pixels % chunk_of(tile, pooled) % tile.pixels == 1 and pooled == 1
        return body(tile, pooled, single, self._is_vector, self.finish.form)


def in_registers(kernel: Any) -> Any:
    """The kernel that finishes its sums in registers, if its epilogue lets it."""
    match kernel.epilogue.stages:
        case [Finish() as finish] if finish.form in IN_REGISTERS:
            if isinstance(kernel, DepthwiseCodes):
                return kernel.finished(finish)
            if isinstance(kernel, Gemm) and _fits(kernel, finish):
                return Direct.of(kernel, finish)
    return kernel


def _fits(gemm: Gemm, finish: Finish) -> bool:
    kind, image = TILES[gemm.tile].kind, finish.image
    whole = isinstance(kind, Dot) and kind.lanes % LANES == 0
    pixels = image.height * image.width * gemm.pooled
    return whole and (finish.form == "floats" or pixels == gemm.pixels)


def _places(image: Image) -> Array:
    rows, columns = np.divmod(np.arange(image.height * image.width), image.width)
    pixels = (rows + image.top) * image.columns + image.left + columns
    return pixels * image.pixel_bytes


def _rows(gemm: Gemm) -> Array:
    return np.arange(gemm.pixels // gemm.pooled) * (4 * gemm.channels)


def _widened(width: int, numbers: Array) -> Array:
    wide = aligned((width,), np.float32)
    wide[: len(numbers)] = numbers
    return wide
