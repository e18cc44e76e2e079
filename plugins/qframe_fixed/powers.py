"""Rounding to powers of two by a table, since log2 and exp2 are not exact on devices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

# Exponents of normal float32 numbers; some devices flush subnormal ones to zero.
LEAST, MOST = -126, 127


def to_powers(
    magnitude: Any, exponents: Sequence[int], *, floor: bool = False, noise: Any = None
) -> Any:
    """Round each magnitude to a power of two, in float32.

    Args:
        magnitude: a tensor of float32, not negative.
        exponents: of the available powers, ascending and evenly spaced.
        floor: round down. Otherwise round to the nearest exponent, ties up.
        noise: uniform in [0, 1), which draws one of both neighbours so that the mean over
            draws is the magnitude.
    """
    powers = np.exp2(np.asarray(exponents, np.float64))
    last = len(powers) - 1
    table = ops.convert_to_tensor(powers.astype(np.float32))
    at = _index(magnitude, exponents, table)
    below = ops.take(table, at)
    if floor:
        return below
    above = ops.take(table, ops.minimum(at + 1, last))
    if noise is None:
        halfway = np.append(np.sqrt(powers[:-1] * powers[1:]), np.inf)
        edges = ops.convert_to_tensor(halfway.astype(np.float32))
        up = ops.greater_equal(magnitude, ops.take(edges, at))
    else:
        up = ops.greater(magnitude - below, noise * (above - below))
    return ops.where(up, above, below)


def _index(magnitude: Any, exponents: Sequence[int], table: Any) -> Any:
    """The index of the largest power up to each magnitude, or 0."""
    last = len(exponents) - 1
    stride = exponents[1] - exponents[0] if last else 1
    number = ops.where(ops.isnan(magnitude), ops.ones_like(magnitude), magnitude)
    guess = ops.floor((ops.log2(number) - exponents[0]) / stride)
    at = ops.cast(ops.clip(guess, 0, last), "int32")
    # The logarithm is not exact, so the guess may be one off.
    low = ops.less(number, ops.take(table, at))
    high = ops.greater_equal(number, ops.take(table, ops.minimum(at + 1, last)))
    return ops.clip(at - ops.cast(low, "int32") + ops.cast(high, "int32"), 0, last)


def reference_powers(x: Any, exponents: Sequence[int], *, floor: bool = False) -> Any:
    """The NumPy reference of `to_powers`, by logarithms."""
    stride = exponents[1] - exponents[0] if len(exponents) > 1 else 1
    with np.errstate(divide="ignore"):
        steps = (np.log2(x.astype(np.float64)) - exponents[0]) / stride
    steps = np.floor(steps) if floor else np.floor(steps + 0.5)
    exponent = exponents[0] + stride * np.clip(steps, 0, len(exponents) - 1)
    return np.exp2(exponent).astype(np.float32)
