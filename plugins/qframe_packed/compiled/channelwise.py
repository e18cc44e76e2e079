"""LLVM code for products of each channel with its own weights: codes, u8, by 8 bits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir

from qframe_packed.compiled.finishing_code import Emission
from qframe_packed.compiled.groups import over_groups, write
from qframe_packed.compiled.interleaving import (
    REGISTERS,
    SUMS,
    WEIGHTS,
    dot,
    in_channels,
    interleaved,
)
from qframe_packed.compiled.rounding import LANES
from qframe_packed.compiled.vectors import integer, load, loop

_FLOATS = ir.VectorType(ir.FloatType(), LANES)


class _Group:
    """The code for the channels of some registers, from a channel on.

    Args:
        b: the builder.
        p: the fields of the kernel.
        emission: the code that finishes sums; None if they become floats.
        registers: 4 or 1.
        channel: the first channel.
    """

    def __init__(
        self, b: Any, p: Any, emission: Emission | None, registers: int, channel: Any
    ) -> None:
        self._b, self._emission, self._registers = b, emission, registers
        self._codes = ir.VectorType(ir.IntType(8), registers * LANES)
        self._channel, self._offset = channel, b.mul(channel, integer(4))
        self._room = None
        if registers == 1:
            self._room = b.sub(p.channels if emission else p.width, channel)
        each = 4 * REGISTERS
        self.first_set = b.add(p.weights, b.mul(channel, b.mul(p.sets, integer(each))))
        self.set_bytes = each * registers * LANES
        # They are the same for each pixel, and stay in registers.
        if emission:
            self._operands = emission.operands(channel, registers)
        address = b.add(p.starts, self._offset)
        places = range(0, 4 * LANES * registers, 4 * LANES)
        self.starts = [load(b, SUMS, b.add(address, integer(place))) for place in places]

    def quads(self, addresses: list[Any]) -> list[Any]:
        """The codes of up to 4 positions, interleaved."""
        b = self._b
        rows = [
            load(b, self._codes, b.add(address, self._channel), align=1)
            for address in addresses
        ]
        rows += [ir.Constant(self._codes, None)] * (4 - len(rows))
        return interleaved(b, rows)

    def weights(self, address: Any) -> list[list[Any]]:
        """A set of weights, for each register of sums."""
        b, places = self._b, range(0, self.set_bytes, 4 * LANES)
        read = [load(b, WEIGHTS, b.add(address, integer(place))) for place in places]
        return [read[i : i + REGISTERS] for i in range(0, len(read), REGISTERS)]

    def add(self, sums: list[Any], quads: list[Any], weights: Any) -> list[Any]:
        """The sums with the products of a set of weights."""
        return [dot(self._b, *three) for three in zip(sums, quads, weights, strict=True)]

    def end(self, sums: list[Any], out: Any) -> None:
        """Write codes, or floats in the order of channels."""
        b = self._b
        if self._emission:
            codes, floats = b.add(out, self._channel), b.add(out, self._offset)
            self._emission.finish(sums, self._operands, codes, floats, room=self._room)
        else:
            floats = [b.sitofp(total, _FLOATS) for total in sums]
            write(b, in_channels(b, floats), b.add(out, self._offset), self._room)


# Emits the results of a row of pixels: from the builder, the fields of a kernel, the code
# that finishes sums, the address of the first window, that of the first result, and the
# bytes from a result to the next.
Row = Callable[[Any, Any, "Emission | None", Any, Any, Any], None]


def windows(
    b: Any, p: Any, emission: Emission | None, source: Any, out: Any, stride: Any
) -> None:
    """Emit a row of pixels whose windows have any positions: a `Row`."""
    sets = p.sets

    def group(registers: int, channel: Any) -> None:
        part = _Group(b, p, emission, registers, channel)

        def pixel(index: Any, window: Any, result: Any) -> tuple[Any, ...]:
            def positions(
                index: Any, offsets: Any, weights: Any, *sums: Any
            ) -> tuple[Any, ...]:
                places = (b.add(offsets, integer(8 * i)) for i in range(4))
                four = [b.add(window, load(b, ir.IntType(64), place)) for place in places]
                after = part.add([*sums], part.quads(four), part.weights(weights))
                weights = b.add(weights, integer(part.set_bytes))
                return b.add(offsets, integer(32)), weights, *after

            carried = p.offsets, part.first_set, *part.starts
            _, _, *sums = loop(b, integer(0), sets, 1, carried, positions)
            part.end(sums, result)
            return b.add(window, p.across), b.add(result, stride)

        loop(b, integer(0), p.columns, 1, (source, out), pixel)

    over_groups(b, p.channels, group)


def sliding(size: int, step: int) -> Row:
    """The code of a row of pixels whose windows of size x size overlap.

    A column of codes is interleaved once, for all windows that it is in.
    """
    quads = -(-size // 4)
    # Windows that begin before the first one ends.
    ahead = (size - 1) // step

    def row(
        b: Any, p: Any, emission: Emission | None, source: Any, out: Any, stride: Any
    ) -> None:
        pixel_bytes = p.image.pixel_bytes
        offsets = [b.mul(p.down, integer(place)) for place in range(size)]

        def group(registers: int, channel: Any) -> None:
            part = _Group(b, p, emission, registers, channel)

            def add_column(windows: list[list[Any]], address: Any, number: int) -> None:
                """Add a column, counted from the beginning of the first window."""
                column = b.add(address, b.mul(pixel_bytes, integer(number)))
                rows = [b.add(column, offset) for offset in offsets]
                codes_of = [part.quads(rows[4 * q : 4 * q + 4]) for q in range(quads)]
                for i, sums in enumerate(windows):
                    place = number - step * i
                    for q in range(quads if 0 <= place < size else 0):
                        offset = integer((place * quads + q) * part.set_bytes)
                        weights = part.weights(b.add(part.first_set, offset))
                        sums = part.add(sums, codes_of[q], weights)
                    windows[i] = sums

            def pixel(index: Any, window: Any, result: Any, *flat: Any) -> tuple[Any, ...]:
                places = range(0, ahead * registers, registers)
                windows = [[*flat[i : i + registers]] for i in places] + [part.starts]
                for number in range(size - step, size):
                    add_column(windows, window, number)
                done, *windows = windows
                part.end(done, result)
                sums = (total for sums in windows for total in sums)
                return b.add(window, p.across), b.add(result, stride), *sums

            windows = [part.starts for _ in range(ahead)]
            for number in range(size - step):
                add_column(windows, source, number)
            flat = (total for sums in windows for total in sums)
            loop(b, integer(0), p.columns, 1, (source, out, *flat), pixel)

        over_groups(b, p.channels, group)

    return row
