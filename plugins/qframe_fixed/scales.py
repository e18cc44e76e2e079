"""Statistics of channels and scales computed from them, as in QKeras."""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops

from qframe.quantizers import axes_within_channels
from qframe_fixed.powers import LEAST, MOST, reference_powers, to_powers

# QKeras adds it before a division or a logarithm.
EPSILON = 1e-7


def largest(x: Any, channel_axis: Any) -> Any:
    """The largest magnitude of each channel."""
    if axes := axes_within_channels(len(x.shape), channel_axis):
        return ops.max(ops.abs(x), axis=axes, keepdims=True, initial=0)
    return ops.abs(x)


def deviation(x: Any, channel_axis: Any) -> Any:
    """The standard deviation of each channel."""
    if axes := axes_within_channels(len(x.shape), channel_axis):
        return ops.std(x, axis=axes, keepdims=True) + EPSILON
    return ops.zeros_like(x) + EPSILON


def least_squares(x: Any, q: Any, channel_axis: Any) -> Any:
    """The scale s of each channel that minimizes the squared error of s q to x."""
    xq, qq = x * q, q * q
    if axes := axes_within_channels(len(x.shape), channel_axis):
        xq, qq = (ops.mean(product, axis=axes, keepdims=True) for product in (xq, qq))
    return xq / (qq + EPSILON)


def nearest_power(scale: Any, low: int | None = None, high: int | None = None) -> Any:
    """Round a scale to the power of two with the nearest exponent, within bounds."""
    return ops.cast(
        to_powers(ops.cast(scale + EPSILON, "float32"), _exponents(low, high)), scale.dtype
    )


def _exponents(low: int | None, high: int | None) -> range:
    return range(LEAST if low is None else low, (MOST if high is None else high) + 1)


def reference_least_squares(x: Any, q: Any, axes: tuple[int, ...]) -> Any:
    """The NumPy reference of `least_squares`."""
    xq = np.mean(x * q, axis=axes, keepdims=True)
    return xq / (np.mean(q * q, axis=axes, keepdims=True) + x.dtype.type(EPSILON))


def reference_power(scale: Any, low: int | None = None, high: int | None = None) -> Any:
    """The NumPy reference of `nearest_power`."""
    return reference_powers(scale + EPSILON, _exponents(low, high)).astype(scale.dtype)
