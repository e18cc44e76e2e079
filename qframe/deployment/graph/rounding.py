"""Rounding rules, and the proof that a quantizer follows one of them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

# In float32. A number halfway between integers goes to the even one, or up.
RULES: Mapping[str, Callable[[Array], Array]] = {
    "half_even": np.rint,
    "half_up": lambda x: np.floor(x + np.float32(0.5)),
}


def quantized(
    x: Array, rounding: str, scale: float, low: int, high: int, reciprocal: bool = False
) -> Array:
    """``clip(round(x / scale), low, high)`` in float32: integers from the zero point.

    Args:
        x: float32 numbers.
        rounding: one of `RULES`.
        scale: the scale.
        low: the smallest integer.
        high: the largest integer.
        reciprocal: whether to multiply by ``1 / scale``, as compilers may. Default False.
    """
    divisor = np.float32(scale)
    steps = x * (np.float32(1) / divisor) if reciprocal else x / divisor
    rounded = RULES[rounding](steps)
    return np.clip(rounded, np.float32(low), np.float32(high)).astype(np.int32)


def rounding_of(thresholds: Array, scale: float, low: int, step: int) -> str | None:
    """The rule that equals the thresholds for every float32 number; None without one.

    Both are monotone, so they are equal if they agree at each threshold and at the float
    below it. The quantizer may divide by the scale or multiply by its reciprocal.
    """
    if step != 1 or thresholds.ndim > 1 or not np.isfinite(thresholds).all():
        return None
    levels = low + 1 + np.arange(len(thresholds))
    below = np.nextafter(thresholds, np.float32(-np.inf))
    with np.errstate(over="ignore"):
        for rounding, reciprocal in itertools.product(RULES, (False, True)):
            at, before = (
                quantized(x, rounding, scale, low, int(levels[-1]), reciprocal)
                for x in (thresholds, below)
            )
            if (at == levels).all() and (before == levels - 1).all():
                return rounding
    return None
