"""The kernel of max pools of codes."""

from __future__ import annotations

from typing import Any

import attrs
import numba
import numpy as np
from llvmlite import ir

from qframe.deployment.graph.operations import MaxPool
from qframe.deployment.graph.values import Value
from qframe_packed.compiled.groups import over_groups, write
from qframe_packed.compiled.layout import Image
from qframe_packed.compiled.memory import Buffer, aligned
from qframe_packed.compiled.parameters import Address, Parameters
from qframe_packed.compiled.pooling import Windows, columns_of, rows_of
from qframe_packed.compiled.rounding import LANES
from qframe_packed.compiled.vectors import declared, emitter, integer, load, loop


@emitter
def _largest(
    b: Any,
    window: Any,
    down: Any,
    across: Any,
    rows: Any,
    columns: Any,
    inverted: Any,
    out: Any,
    channels: Any,
) -> None:
    """Write the largest codes of a window, and the smallest where `inverted` is 255.

    `down` and `across` are the bytes to the next row and to the next column.
    """

    def group(registers: int, channel: Any) -> None:
        kind = ir.VectorType(ir.IntType(8), registers * LANES)
        name = f"llvm.umax.v{kind.count}i8"
        mask = load(b, kind, b.add(inverted, channel), align=1)
        largest = declared(b, name, kind, [kind] * 2)

        def row(index: Any, start: Any, before: Any) -> tuple[Any, ...]:
            def pixel(index: Any, address: Any, codes: Any) -> tuple[Any, ...]:
                found = b.xor(load(b, kind, address, align=1), mask)
                return b.add(address, across), b.call(largest, [codes, found])

            _, codes = loop(b, integer(0), columns, 1, (start, before), pixel)
            return b.add(start, down), codes

        carried = b.add(window, channel), ir.Constant(kind, None)
        _, codes = loop(b, integer(0), rows, 1, carried, row)
        room = b.sub(channels, channel) if registers == 1 else None
        write(b, [b.xor(codes, mask)], b.add(out, channel), room)

    over_groups(b, channels, group)


@attrs.frozen(eq=False)
class PoolCodes(Parameters):
    """The largest code of each window, or the smallest where the direction is -1."""

    source: Address
    windows: Windows
    channels: int
    inverted: Address  # of each channel: 255 where the direction is -1, else 0
    out: Address
    image: Image  # of the result
    label = "pool of codes"

    @classmethod
    def of(
        cls, source: Buffer, out: Buffer, image: Image, operation: MaxPool, x: Value
    ) -> PoolCodes:
        """The kernel for the operation on `x`."""
        channels = x.shape[-1]
        inverted = aligned((channels + LANES,), np.uint8)
        if operation.direction is not None:
            inverted[:channels] = np.where(operation.direction < 0, 255, 0)
        return cls(source, Windows.of(operation, x), channels, inverted, out, image)

    @property
    def parts(self) -> int:
        return self.image.height

    @property
    def cost(self) -> float:
        return super().cost * (1 + self.windows.size / 4)

    @staticmethod
    @numba.njit
    def run(begin: int, end: int, p: Any) -> None:
        windows, pixel, image = p.windows, p.channels, p.image
        height, width = windows.height, windows.width
        for number in range(begin, end):
            s, y = number // image.height, number % image.height
            top, bottom = rows_of(windows, y)
            row = (s * image.rows + image.top + y) * image.columns + image.left
            for x in range(image.width):
                left, right = columns_of(windows, x)
                _largest(
                    p.source + ((s * height + top) * width + left) * pixel,
                    width * pixel,
                    pixel,
                    bottom - top,
                    right - left,
                    p.inverted,
                    p.out + (row + x) * pixel,
                    pixel,
                )
