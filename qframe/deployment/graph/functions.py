"""The functions of each number, or of each row, in NumPy."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qframe.deployment.graph.operations import Activation

Array = NDArray[Any]
# The entries of the table of erf between two integers, and the number from which it is 1.
_ENTRIES, _FAR = 512, 6


def activate(op: Activation, x: Array) -> Array:
    """The result of an activation in float32."""
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(_FUNCTIONS[op.function](x, op), np.float32)


def _relu(x: Array, op: Activation) -> Array:
    edge = np.float32(op.threshold)
    # As in Keras, the slope begins at the threshold.
    below = np.float32(op.alpha) * (x - edge) if op.alpha else np.zeros_like(x)
    y = np.where(x > edge, x, below)
    return y if op.most is None else np.minimum(y, np.float32(op.most))


def _clip(x: Array, op: Activation) -> Array:
    ends = (None if end is None else np.float32(end) for end in (op.least, op.most))
    low, high = ends
    y = x if low is None else np.maximum(x, low)
    return y if high is None else np.minimum(y, high)


def _sigmoid(x: Array) -> Array:
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + e), e / (1 + e))


def _hard_sigmoid(x: Array) -> Array:
    return np.clip(x / 6 + np.float32(0.5), 0, 1)


def _leaky_tanh(x: Array, op: Activation) -> Array:
    inside = np.clip(x, -1, 1)
    return inside + np.float32(op.alpha) * (x - inside)


def _softmax(x: Array) -> Array:
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return np.asarray(e / e.sum(axis=-1, keepdims=True))


@functools.cache
def _table() -> tuple[Array, Array]:
    """The values and slopes of erf."""
    places = np.arange(_FAR * _ENTRIES + 1) / _ENTRIES
    values = np.array([math.erf(place) for place in places])
    return values, 2 / math.sqrt(math.pi) * np.exp(-(places**2))


def _erf(x: Array) -> Array:
    """The error function within 1e-9: two terms of its series from the nearest entry."""
    values, slopes = _table()
    far = np.minimum(np.abs(np.nan_to_num(x, nan=0.0)).astype(np.float64), _FAR)
    entry = np.rint(far * _ENTRIES).astype(np.int32)
    near = entry / _ENTRIES
    distance = far - near
    size = values[entry] + distance * slopes[entry] * (1 - near * distance)
    return np.copysign(size, x) + np.where(np.isnan(x), np.nan, 0)


def _gelu(x: Array) -> Array:
    return 0.5 * x * (1 + _erf(x / np.float32(math.sqrt(2))))


def _gelu_tanh(x: Array) -> Array:
    inside = np.float32(math.sqrt(2 / math.pi)) * (x + np.float32(0.044715) * x * x * x)
    return np.float32(0.5) * x * (1 + np.tanh(inside))


_FUNCTIONS: dict[str, Callable[[Array, Activation], Array]] = {
    "absolute": lambda x, op: np.abs(x),
    "clip": _clip,
    "elu": lambda x, op: np.where(x > 0, x, op.alpha * np.expm1(np.minimum(x, 0))),
    "exponential": lambda x, op: np.exp(x),
    "gelu": lambda x, op: _gelu(x),
    "gelu_tanh": lambda x, op: _gelu_tanh(x),
    "hard_sigmoid": lambda x, op: _hard_sigmoid(x),
    "hard_silu": lambda x, op: x * _hard_sigmoid(x),
    "hard_tanh": lambda x, op: np.clip(x, -1, 1),
    "leaky_tanh": _leaky_tanh,
    "mish": lambda x, op: x * np.tanh(np.logaddexp(x, 0)),
    "relu": _relu,
    "sigmoid": lambda x, op: _sigmoid(x),
    "silu": lambda x, op: x * _sigmoid(x),
    "softmax": lambda x, op: _softmax(x),
    "softplus": lambda x, op: np.logaddexp(x, 0),
    "softsign": lambda x, op: x / (1 + np.abs(x)),
    "sqrt": lambda x, op: np.sqrt(x),
    "square": lambda x, op: x * x,
    "tanh": lambda x, op: np.tanh(x),
}
