"""Arithmetic that quantizers share."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from qframe.quantizers.channels import ChannelAxis, axes_within_channels
from qframe.quantizers.surrogate import straight_through


def wide(x: Any) -> Any:
    """`x` in float32 at least: for statistics, and where a grid has many steps."""
    dtype = keras.backend.standardize_dtype(x.dtype)
    return ops.cast(x, keras.backend.result_type(dtype, "float32"))


def wide_array(x: NDArray[Any]) -> NDArray[Any]:
    """`wide` for NumPy."""
    return x.astype(np.result_type(x.dtype, np.float32))


def tiny(x: Any) -> float:
    """The smallest normal number: devices differ in whether smaller ones are zero."""
    return float(np.finfo(keras.backend.standardize_dtype(x.dtype)).tiny)


def grafted(value: Any, root: Any) -> Any:
    """`value`, with the gradient of `root`, of the same shape and dtype."""
    # Not root + stop_gradient(value - root), which rounds.
    nothing = straight_through(ops.zeros_like, ops.ones_like)(root)
    return ops.stop_gradient(value) + nothing


def positive(x: Any) -> Any:
    """`x`, held above 0, with the gradient of the identity: below, it can learn back."""
    return grafted(ops.maximum(x, 1e-12), x)


def as_array(tensor: Any) -> NDArray[Any]:
    """A tensor of state as NumPy."""
    return np.asarray(ops.convert_to_numpy(tensor))


def within(x: Any, clip_value: float | None) -> Any:
    """1 where abs(x) <= clip_value (everywhere for None), else 0, in the dtype of x."""
    if clip_value is None:
        return ops.ones_like(x)
    return ops.cast(ops.less_equal(ops.abs(x), clip_value), x.dtype)


def within_array(x: NDArray[Any], clip_value: float | None) -> NDArray[Any]:
    """`within` for NumPy."""
    if clip_value is None:
        return np.ones_like(x)
    inside: NDArray[Any] = np.abs(x) <= x.dtype.type(clip_value)
    return inside.astype(x.dtype)


def headroom(size: Any) -> Any:
    """A power of two for a sum of magnitudes, which are finite, not to be infinite.

    As a factor it changes no digit of large numbers, and would take some of small ones:
    for these it is 1.
    """
    large = ops.greater(ops.max(size, initial=0), 2.0**90)
    return ops.cast(ops.where(large, 2.0**-32, 1.0), size.dtype)


def mean_magnitude(x: Any, channel_axis: ChannelAxis) -> Any:
    """The mean of |x| in each channel, over all other axes (over all of them for None)."""
    reduced = axes_within_channels(len(x.shape), channel_axis)
    if not reduced:
        return ops.abs(x)
    size = ops.abs(wide(x))
    room = headroom(size)
    return ops.cast(ops.mean(size * room, axis=reduced, keepdims=True) / room, x.dtype)


def mean_magnitude_array(x: NDArray[Any], channel_axis: Any) -> NDArray[np.float64]:
    """`mean_magnitude` for NumPy, in float64."""
    axes = axes_of_array(x, channel_axis)
    mean: NDArray[np.float64] = np.abs(x).mean(axis=axes, keepdims=True, dtype=np.float64)
    return mean


def axes_of_array(x: NDArray[Any], channel_axis: Any) -> tuple[int, ...]:
    """`axes_within_channels` for NumPy references, found in another way."""
    kept = np.atleast_1d([] if channel_axis is None else channel_axis) % max(x.ndim, 1)
    return tuple(axis for axis in range(x.ndim) if axis not in kept)
