"""Rounding to integers, in keras.ops and, for references, in NumPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from keras import ops

STOCHASTIC = "stochastic"


def _half_away(x: Any) -> Any:
    return ops.where(ops.less(x, 0), ops.ceil(x - 0.5), ops.floor(x + 0.5))


def _toward_zero(x: Any) -> Any:
    return ops.where(ops.less(x, 0), ops.ceil(x), ops.floor(x))


# Stochastic rounding takes the nearest integer in inference.
MODES: dict[str, Callable[[Any], Any]] = {
    "half_even": ops.round,
    "half_up": lambda x: ops.floor(x + 0.5),
    "half_away": _half_away,
    "floor": ops.floor,
    "ceil": ops.ceil,
    "toward_zero": _toward_zero,
    STOCHASTIC: ops.round,
}

REFERENCES: dict[str, Callable[[Any], Any]] = {
    "half_even": np.rint,
    "half_up": lambda x: np.floor(x + x.dtype.type(0.5)),
    "half_away": lambda x: np.trunc(x + np.copysign(x.dtype.type(0.5), x)),
    "floor": np.floor,
    "ceil": np.ceil,
    "toward_zero": np.trunc,
    STOCHASTIC: np.rint,
}
