"""The LLVM code of `finishing`: sums in registers become floats and codes."""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from qframe_packed.compiled.groups import over_groups, read, write
from qframe_packed.compiled.interleaving import in_channels
from qframe_packed.compiled.rounding import LANES, Rounding
from qframe_packed.compiled.vectors import (
    either,
    emitter,
    integer,
    load,
    loop,
    over_rows,
    splat,
)

_I8 = ir.IntType(8)
_F32 = ir.FloatType()
# What a `Finish` gives of sums, without a residual.
IN_REGISTERS = "codes", "floats"


class Emission:
    """The code that finishes registers of sums.

    Its fields are read once, before the loops over pixels.

    Args:
        b: the builder.
        p: the fields of a `Finish`.
        form: what it gives: see `Finish.form`.
        interleaved: whether lane ``4 i + j`` of the register k of four has the channel
            ``16 i + 4 k + j``, so that packs put codes in the order of channels. Scale and
            shift are in the same order as sums.
    """

    def __init__(self, b: Any, p: Any, form: str, interleaved: bool = False) -> None:
        self._b, self.form, self._interleaved = b, form, interleaved
        self._scale, self._shift = p.scale, p.shift
        if form != "floats":
            self._rounding = Rounding(b, p, interleaved)
        if form != "codes":
            self._rectifies = b.icmp_signed("!=", p.rectifies, integer(0))
            self._most = self._splat(p.most)
        if form != "all":
            return
        r = p.residual
        self._has_floats, self._has_codes, self._adds, self._adds_codes = (
            b.icmp_signed("!=", part, integer(0))
            for part in (p.floats, p.codes, r.source, r.codes)
        )
        names = ("unit", "low", "scale", "shift")
        self._code = [self._splat(getattr(r, name)) for name in names]

    def _splat(self, number: Any) -> Any:
        return splat(self._b, number, LANES)

    def operands(self, channel: Any, count: int) -> tuple[list[Any], list[Any]]:
        """Read the scale and the shift of `count` registers from a channel on."""
        b, kind = self._b, ir.VectorType(_F32, LANES)
        offset = b.mul(channel, integer(4))
        return tuple(  # type: ignore[return-value]
            [
                load(b, kind, b.add(b.add(part, offset), integer(4 * LANES * i)))
                for i in range(count)
            ]
            for part in (self._scale, self._shift)
        )

    def finish(
        self,
        sums: list[Any],
        operands: tuple[list[Any], list[Any]],
        codes: Any,
        floats: Any = None,
        residual: Any = None,
        room: Any = None,
    ) -> None:
        """Finish one register, 2 or 4 of them.

        Args:
            sums: the registers, of int32 or of floats.
            operands: what `operands` returned for them.
            codes: the address of the first code.
            floats: the address of the first float.
            residual: the address of the first number that is added.
            room: channels that are written; None for all.
        """
        b, kind = self._b, ir.VectorType(_F32, LANES)
        ys = []
        for x, scale, shift in zip(sums, *operands, strict=True):
            y = x if x.type == kind else b.sitofp(x, kind)
            ys.append(b.fadd(b.fmul(y, scale), shift))
        if self.form == "all":
            ys = either(b, self._adds, lambda: self._added(ys, residual, room), lambda: ys)
        if self.form != "codes":
            ys = either(b, self._rectifies, lambda: self._rectified(ys), lambda: ys)
        if self.form == "floats":
            write(b, in_channels(b, ys) if self._interleaved else ys, floats, room)
        elif self.form == "codes":
            write(b, [self._rounding.codes(ys)], codes, room)
        else:
            with b.if_then(self._has_floats):
                write(b, ys, floats, room)
            with b.if_then(self._has_codes):
                write(b, [self._rounding.codes(ys)], codes, room)

    def _added(self, ys: list[Any], residual: Any, room: Any) -> list[Any]:
        b, count, kind = self._b, len(ys), ys[0].type

        def codes() -> list[Any]:
            register = ir.VectorType(_I8, LANES)
            places = (b.add(residual, integer(LANES * i)) for i in range(count))
            parts = [load(b, register, place, align=1) for place in places]
            return [numbers_of(b, part, *self._code) for part in parts]

        def floats() -> list[Any]:
            return read(b, kind, residual, count, room)

        numbers = either(b, self._adds_codes, codes, floats)
        return [b.fadd(y, number) for y, number in zip(ys, numbers, strict=True)]

    def _rectified(self, ys: list[Any]) -> list[Any]:
        b, most, zero = self._b, self._most, ir.Constant(ys[0].type, None)
        above = [b.select(b.fcmp_ordered(">", y, zero), y, zero) for y in ys]
        return [b.select(b.fcmp_ordered(">", y, most), most, y) for y in above]


def numbers_of(b: Any, codes: Any, unit: Any, low: Any, scale: Any, shift: Any) -> Any:
    """Emit ``(code * unit + low) * scale + shift`` of a register of codes."""
    # A small integer in any case.
    integers = b.fadd(b.fmul(b.uitofp(codes, unit.type), unit), low)
    return b.fadd(b.fmul(integers, scale), shift)


def body(form: str) -> Any:
    """The emitter of the stage `Finish` of a form."""

    def emit(
        b: Any, values: Any, width: Any, first: Any, size: Any, channels: Any, p: Any
    ) -> None:
        image, residual = p.image, p.residual
        emission = Emission(b, p, form)
        stride = b.mul(width, integer(4))
        floats_stride = b.mul(channels, integer(4))
        begin = b.add(p.floats, b.mul(first, floats_stride))
        last = b.add(first, size)
        padded = b.or_(_is_padded(b, image), _is_padded(b, residual.image))
        # Without padding, all pixels of the batch are one row.
        across = b.select(padded, image.width, last)

        def row(number: Any) -> tuple[Any, ...]:
            """Finish the pixels of a row of the images."""
            left = b.mul(number, across)
            start, end = _larger(b, first, left), _smaller(b, last, b.add(left, across))
            column, done = b.sub(start, left), b.sub(start, first)
            starts = (
                b.add(values, b.mul(done, stride)),
                _place(b, p.codes, image, number, column),
                b.add(begin, b.mul(done, floats_stride)),
                _place(b, residual.source, residual.image, number, column),
            )
            strides = stride, image.pixel_bytes, floats_stride, residual.image.pixel_bytes
            _finish_row(b, emission, b.sub(end, start), channels, starts, strides, residual)
            return ()

        rows = b.sdiv(b.add(last, b.sub(across, integer(1))), across)
        loop(b, b.sdiv(first, across), rows, 1, (), row)

    emit.__qualname__ = f"finish_{form}"
    return emitter(emit)


def _larger(b: Any, x: Any, y: Any) -> Any:
    return b.select(b.icmp_signed(">", x, y), x, y)


def _smaller(b: Any, x: Any, y: Any) -> Any:
    return b.select(b.icmp_signed("<", x, y), x, y)


def _is_padded(b: Any, image: Any) -> Any:
    rows = b.icmp_signed("!=", image.rows, image.height)
    return b.or_(rows, b.icmp_signed("!=", image.columns, image.width))


def place_of_row(b: Any, address: Any, image: Any, number: Any) -> Any:
    """The address of a row, by its number among those of the batch."""
    return _place(b, address, image, number, integer(0))


def _place(b: Any, address: Any, image: Any, number: Any, column: Any) -> Any:
    """The address of a pixel, by the number of its row among those of the batch."""
    sample, row = b.sdiv(number, image.height), b.srem(number, image.height)
    down = b.add(b.add(b.mul(sample, image.rows), image.top), row)
    place = b.add(b.add(b.mul(down, image.columns), image.left), column)
    return b.add(address, b.mul(place, image.pixel_bytes))


def _finish_row(
    b: Any,
    emission: Emission,
    count: Any,
    channels: Any,
    starts: tuple[Any, ...],
    strides: tuple[Any, ...],
    residual: Any,
) -> None:
    """Finish pixels that follow one another: in values, codes, floats and the residual."""
    kind = ir.VectorType(_F32, LANES)
    codes = b.icmp_signed("!=", residual.codes, integer(0))
    sizes = integer(4), integer(1), integer(4), b.select(codes, integer(1), integer(4))

    def group(registers: int, channel: Any) -> None:
        operands = emission.operands(channel, registers)
        room = b.sub(channels, channel) if registers == 1 else None

        def pixel(x: Any, code: Any, number: Any, added: Any) -> None:
            sums = read(b, kind, x, registers, room)
            emission.finish(sums, operands, code, number, added, room)

        firsts = (
            b.add(start, b.mul(channel, size))
            for start, size in zip(starts, sizes, strict=True)
        )
        over_rows(b, count, (*firsts,), strides, pixel)

    over_groups(b, channels, group)
