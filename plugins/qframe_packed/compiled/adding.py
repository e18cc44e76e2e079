"""The stage that adds a tensor of codes to sums."""

from __future__ import annotations

from typing import Any

import attrs
import numba
from llvmlite import ir

from qframe_packed.compiled.coding import place_of
from qframe_packed.compiled.finishing import Residual
from qframe_packed.compiled.finishing_code import numbers_of
from qframe_packed.compiled.parameters import Parameters
from qframe_packed.compiled.vectors import (
    emitter,
    integer,
    load,
    over_channels,
    splat,
    store,
)


@emitter
def _add(
    b: Any,
    values: Any,
    codes: Any,
    channels: Any,
    unit: Any,
    low: Any,
    scale: Any,
    shift: Any,
) -> None:
    """Add the numbers of codes to the numbers of a pixel."""

    def body(kind: Any, index: Any) -> None:
        parts = [splat(b, part, kind.count) for part in (unit, low, scale, shift)]
        register = ir.VectorType(ir.IntType(8), kind.count)
        added = numbers_of(b, load(b, register, b.add(codes, index), align=1), *parts)
        place = b.add(values, b.mul(index, integer(4)))
        store(b, b.fadd(load(b, kind, place), added), place)

    over_channels(b, channels, body)


@attrs.frozen(eq=False)
class AddCodes(Parameters):
    """A stage that adds the numbers of codes."""

    residual: Residual
    label = "add codes"

    @staticmethod
    @numba.njit
    def run(values: int, width: int, first: int, size: int, channels: int, p: Any) -> None:
        r = p.residual
        for i in range(size):
            codes = r.source + place_of(r.image, first + i)
            row = values + 4 * i * width
            _add(row, codes, channels, r.unit, r.low, r.scale, r.shift)
