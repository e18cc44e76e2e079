"""The kernel of depthwise convolutions of codes."""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from qframe.deployment.graph.operations import Conv2D
from qframe.deployment.graph.values import Value
from qframe_packed.compiled.channelwise import sliding, windows
from qframe_packed.compiled.codes import starts_of
from qframe_packed.compiled.coding import unit_of
from qframe_packed.compiled.epilogue import Epilogue
from qframe_packed.compiled.finishing import NOTHING, Finish
from qframe_packed.compiled.finishing_code import IN_REGISTERS, Emission, place_of_row
from qframe_packed.compiled.interleaving import in_order, panels
from qframe_packed.compiled.layout import Image
from qframe_packed.compiled.memory import Buffer
from qframe_packed.compiled.parameters import REGISTERS, Address, Parameters, run_table
from qframe_packed.compiled.peaks import peak_of
from qframe_packed.compiled.rounding import LANES
from qframe_packed.compiled.tiles import CODES
from qframe_packed.compiled.vectors import emitter, integer, loop, padded

Array = NDArray[Any]
# Of sizes and strides.
_SLIDING = {kind: sliding(*kind) for kind in ((3, 1), (3, 2), (5, 1), (5, 2))}


def _body(kind: tuple[int, int] | None, form: str | None) -> Any:
    """The emitter of the kernel for windows of a size and a stride, or for any windows.

    It finishes sums in registers, in a form, or else by an epilogue.
    """
    compute = _SLIDING[kind] if kind else windows

    def emit(b: Any, begin: Any, end: Any, p: Any) -> None:
        image, finish = p.image, p.finish
        finished = Emission(b, finish, form, interleaved=True) if form else None
        columns, channels, width = p.columns, p.channels, p.width

        def row(number: Any) -> tuple[Any, ...]:
            sample, y = b.sdiv(number, p.rows), b.srem(number, p.rows)
            top = b.add(b.mul(sample, image.rows), b.mul(y, p.stride))
            source = b.add(p.source, b.mul(top, p.down))
            if form == "codes":
                place = place_of_row(b, finish.codes, finish.image, number)
                compute(b, p, finished, source, place, finish.image.pixel_bytes)
            elif form:
                pixel_bytes = b.mul(channels, integer(4))
                place = b.mul(b.mul(number, columns), pixel_bytes)
                compute(b, p, finished, source, b.add(finish.floats, place), pixel_bytes)
            else:
                compute(b, p, None, source, p.values, b.mul(width, integer(4)))
                stages, first = p.epilogue, b.mul(number, columns)
                arguments = p.values, width, first, columns, channels
                run_table(b, stages.table, stages.count, *arguments)
            return ()

        loop(b, begin, end, 1, (), row)

    name = "x".join(map(str, kind)) if kind else "any"
    emit.__qualname__ = f"depthwise_{name}_{form or 'sums'}"
    return emitter(emit)


_BODIES = {
    (kind, form): _body(kind, form)
    for kind in (None, *_SLIDING)
    for form in (*IN_REGISTERS, None)
}


@attrs.frozen(eq=False)
class DepthwiseCodes(Parameters):
    """Products of each channel of codes with its own weights, and their epilogue."""

    source: Address
    image: Image  # of codes
    weights: Address
    starts: Address  # int32 from which sums start, in the order of sums
    offsets: Address  # bytes from the beginning of a window to each of its positions
    sets: int  # of 4 positions
    size: int  # rows of a window
    slides: bool  # whether its size and stride are in _SLIDING
    channels: int
    across: int  # bytes from a window to the next
    down: int  # bytes from a row of the image to the next
    stride: int  # rows from a window to the next
    rows: int  # of the result
    columns: int
    values: Address  # sums of a row as floats
    width: int  # floats of a pixel in `values`
    epilogue: Epilogue
    finish: Finish  # of sums in registers, in their order
    label = "depthwise of codes"

    @classmethod
    def of(
        cls, source: Buffer, image: Image, operation: Conv2D, x: Value, y: Value
    ) -> DepthwiseCodes:
        """The kernel for the operation that makes `x`, as an image of codes, to `y`."""
        span, (rows, columns, channels) = x.span, y.shape
        assert span is not None  # noqa: S101
        weights = np.asarray(operation.kernel.integers(), np.int64)[..., 0]
        starts = starts_of(weights.sum(axis=(1, 2)), span)
        slides = _slides(operation)
        sets = _columns(weights) if slides else _fours(weights.reshape(channels, -1))
        row, column = np.divmod(np.arange(4 * sets.shape[1]), weights.shape[2])
        row = np.minimum(row, weights.shape[1] - 1)
        down, across = operation.dilation
        offsets = row * down * image.columns + column * across
        return cls(
            source=source,
            image=image,
            weights=panels(unit_of(span) * sets),
            starts=in_order(starts),
            offsets=offsets * image.pixel_bytes,
            sets=sets.shape[1],
            size=weights.shape[1],
            slides=slides,
            channels=channels,
            across=operation.strides[1] * image.pixel_bytes,
            down=image.columns * image.pixel_bytes,
            stride=operation.strides[0],
            rows=rows,
            columns=columns,
            values=Buffer(0, 4 * columns * padded(channels)),
            width=padded(channels),
            epilogue=Epilogue(),
            finish=NOTHING,
        )

    def finished(self, finish: Finish) -> DepthwiseCodes:
        """The kernel that finishes sums in registers, and has no epilogue."""
        finish = finish.reordered(in_order, self.channels)
        return attrs.evolve(self, epilogue=Epilogue(), finish=finish)

    @property
    def peak(self) -> float:
        return peak_of(CODES)

    @property
    def numbers(self) -> int:
        return self.rows * self.columns * self.channels

    @property
    def parts(self) -> int:
        return self.rows

    @property
    def cost(self) -> float:
        return super().cost + self.numbers * self.sets / (LANES * REGISTERS)

    @property
    def body(self) -> Any:
        kind = self.size, self.stride
        form = None if self.finish is NOTHING else self.finish.form
        return _BODIES[kind if self.slides else None, form]


def _slides(operation: Conv2D) -> bool:
    """Return whether windows are of a size and a stride in _SLIDING."""
    (height, width), (down, across) = operation.kernel.shape[1:3], operation.strides
    even = (height, down) == (width, across) and operation.dilation == (1, 1)
    return even and (height, down) in _SLIDING


def _fours(weights: Array) -> Array:
    """Weights (channel, ..., position) in sets (channel, set, 4)."""
    room = [(0, 0)] * (weights.ndim - 1) + [(0, -weights.shape[-1] % 4)]
    return np.pad(weights, room).reshape(len(weights), -1, 4)


def _columns(weights: Array) -> Array:
    """Weights (channel, row, column) in sets, those of each column together."""
    return _fours(weights.transpose(0, 2, 1))
