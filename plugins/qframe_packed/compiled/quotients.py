"""Multiplication in the place of a division that is rounded: it takes a third of the time.

The codes ``clip(rint(y * factor / divisor))`` are ``clip(rint(y * (high + low)))``, with
one rounding of ``y * low`` and one of the sum, if they are so at each step from a code to
the next: both never fall where y rises. So the floats around each step prove it for all.
"""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from qframe_packed.compiled import processor
from qframe_packed.compiled.parameters import Record

Array = NDArray[Any]
# The processor has an instruction that adds a product to a number and rounds once.
FUSES = "fma" in processor.FEATURES or processor.IS_ARM
# Floats around a step, by their places among all floats.
_NEAR = np.arange(-4, 5, dtype=np.int32)


@attrs.frozen(eq=False)
class Quotient(Record):
    """What numbers are multiplied by, as two floats, unless they have to be divided.

    Numbers are at most `most` before, so that neither infinity nor NaN comes from them.
    """

    divides: bool = True
    high: float = 0.0
    low: float = 0.0
    most: float = 0.0

    @classmethod
    def of(cls, factor: Any, divisor: Any, bottom: float, top: float) -> Quotient:
        """The numbers for a factor and a divisor, float32, and whole ends of the codes."""
        with np.errstate(all="ignore"):
            ratio = np.float64(factor) / np.float64(divisor)
            high = np.float32(ratio)
            low = np.float32(ratio - high)
            levels = np.arange(bottom, top)
            steps = ((levels + 0.5) / ratio).astype(np.float32)
            if not (len(steps) and np.isfinite((high, *steps)).all() and abs(low) < 1):
                return cls()
            near = (steps.view(np.int32)[:, None] + _NEAR).view(np.float32)
            rounded = np.rint(near * factor / divisor)
            equal = np.array_equal(np.rint(_products(near, high, low)), rounded)
        inside = rounded.min(axis=1), rounded.max(axis=1)
        single = np.array_equal(inside, (levels, levels + 1))
        if not (equal and single and (FUSES or low == 0)):
            return cls()
        return cls(False, float(high), float(low), float(near[-1].max()))


def _products(x: Array, high: Any, low: Any) -> Array:
    """``x * high + x * low``, with the second product and the sum rounded to float32."""
    first, second = x.astype(np.float64) * high, (x * low).astype(np.float64)
    total = first + second
    rest = total - first
    lost = (first - (total - rest)) + (second - rest)
    # The sum is rounded to odd, so that rounding it once more is right.
    even = total.view(np.int64) % 2 == 0
    odd = np.nextafter(total, np.where(lost > 0, np.inf, -np.inf))
    return np.where((lost != 0) & even, odd, total).astype(np.float32)
