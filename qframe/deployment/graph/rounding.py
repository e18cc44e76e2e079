"""Uniform rounding, and the proof that a quantizer follows it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

# In float32. A number halfway between integers goes to the even one, or up.
RULES: Mapping[str, Callable[[Array], Array]] = {
    "half_even": np.rint,
    "half_up": lambda x: np.floor(x + np.float32(0.5)),
}


@attrs.frozen
class Rounding:
    """``round(x * factor / divisor)`` in float32, where usually one of the two is 1.

    Args:
        rule: one of `RULES`.
        divisor: positive, exactly a float32 number. Default 1.0.
        factor: likewise. Default 1.0.
    """

    rule: str
    divisor: float = 1.0
    factor: float = 1.0

    def levels(self, x: Array, low: int, high: int) -> Array:
        """The rounded numbers, clipped; NaN becomes `low`."""
        with np.errstate(over="ignore"):
            if self.factor != 1:
                x = x * np.float32(self.factor)
            if self.divisor != 1:
                x = x / np.float32(self.divisor)
            # fmax of NaN and a number is the number.
            rounded = np.fmax(RULES[self.rule](x), np.float32(low))
        return np.minimum(rounded, np.float32(high)).astype(np.int32)


def rounding_of(thresholds: Array, scale: float, low: int, step: int) -> Rounding | None:
    """The rounding that equals the thresholds for every float32 number; None without one.

    Both are monotone, so they are equal if they agree at each threshold and at the float
    below it.
    """
    if step != 1 or thresholds.ndim > 1 or not np.isfinite(thresholds).all():
        return None
    levels = low + 1 + np.arange(len(thresholds))
    below = np.nextafter(thresholds, np.float32(-np.inf))
    for rounding in roundings(scale):
        at, before = (rounding.levels(x, low, int(levels[-1])) for x in (thresholds, below))
        if (at == levels).all() and (before == levels - 1).all():
            return rounding
    return None


def roundings(scale: float) -> Iterator[Rounding]:
    """The roundings that a scale may mean, first those that multiply, which is faster.

    A quantizer may divide by its scale, or multiply by its reciprocal or by the whole
    number next to it: 1 / float32(1 / 255) is not 255.
    """
    with np.errstate(all="ignore"):
        divisor = np.float32(scale)
        reciprocal = np.float32(1) / divisor
    for rule in RULES:
        for factor in (reciprocal, np.rint(reciprocal)):
            if 0 < factor < np.inf:
                yield Rounding(rule, factor=float(factor))
        if 0 < divisor < np.inf:
            yield Rounding(rule, float(divisor))
