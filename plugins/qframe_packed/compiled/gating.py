"""The stage that multiplies an image by one number for each channel."""

from __future__ import annotations

from typing import Any

import attrs
import numba

from qframe_packed.compiled.parameters import Address, Parameters
from qframe_packed.compiled.vectors import emitter, integer, load, over_channels, store


@emitter
def _multiply(b: Any, values: Any, factors: Any, channels: Any) -> None:
    """Multiply floats at an address by those at another one."""

    def body(kind: Any, index: Any) -> None:
        offset = b.mul(index, integer(4))
        place = b.add(values, offset)
        product = b.fmul(load(b, kind, place), load(b, kind, b.add(factors, offset)))
        store(b, product, place)

    over_channels(b, channels, body)


@attrs.frozen(eq=False)
class Gate(Parameters):
    """A stage that multiplies each pixel of a sample by the same pixel."""

    factors: Address  # (sample, channel)
    pixels: int  # of a sample

    @staticmethod
    @numba.njit
    def run(values: int, width: int, first: int, size: int, channels: int, p: Any) -> None:
        for i in range(size):
            sample = (first + i) // p.pixels
            _multiply(values + 4 * i * width, p.factors + 4 * sample * channels, channels)
