"""Shared arithmetic of quantizers."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from qframe.quantizers.channels import ChannelAxis, axes_within_channels
from qframe.quantizers.surrogate import straight_through


def wide(x: Any) -> Any:
    """`x` in float32 or wider, for statistics and for grids of many steps."""
    dtype = keras.backend.standardize_dtype(x.dtype)
    return ops.cast(x, keras.backend.result_type(dtype, "float32"))


def wide_array(x: NDArray[Any]) -> NDArray[Any]:
    """`wide` for NumPy."""
    return x.astype(np.result_type(x.dtype, np.float32))


def tiny(x: Any) -> float:
    """The smallest normal number; some devices flush smaller ones to zero."""
    return float(np.finfo(keras.backend.standardize_dtype(x.dtype)).tiny)


def with_gradient(value: Any, root: Any) -> Any:
    """`value`, with the gradient of `root`, of the same shape and dtype."""
    # The usual root + stop_gradient(value - root) rounds.
    zero = straight_through(ops.zeros_like, ops.ones_like)(root)
    return ops.stop_gradient(value) + zero


def positive(x: Any) -> Any:
    """`x` clipped above 0, with the gradient of the identity, so that it can recover."""
    return with_gradient(ops.maximum(x, 1e-12), x)


def as_array(tensor: Any) -> NDArray[Any]:
    """A tensor as a NumPy array."""
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
    return np.asarray(np.abs(x) <= x.dtype.type(clip_value), x.dtype)


def headroom(size: Any) -> Any:
    """A power of two as a factor that keeps a sum of finite magnitudes finite.

    Large numbers keep all their digits. Small ones would lose some, so for them it is 1.
    """
    large = ops.greater(ops.max(size, initial=0), 2.0**90)
    return ops.cast(ops.where(large, 2.0**-32, 1.0), size.dtype)


def mean_magnitude(x: Any, channel_axis: ChannelAxis) -> Any:
    """The mean of |x| in each channel, over all other axes (over all of them for None)."""
    reduced = axes_within_channels(len(x.shape), channel_axis)
    if not reduced:
        return ops.abs(x)
    size = ops.abs(wide(x))
    factor = headroom(size)
    return ops.cast(ops.mean(size * factor, axis=reduced, keepdims=True) / factor, x.dtype)


def mean_magnitude_array(x: NDArray[Any], channel_axis: Any) -> NDArray[np.float64]:
    """`mean_magnitude` for NumPy, in float64."""
    axes = axes_of_array(x, channel_axis)
    return np.asarray(np.abs(x).mean(axis=axes, keepdims=True, dtype=np.float64))


def axes_of_array(x: NDArray[Any], channel_axis: Any) -> tuple[int, ...]:
    """An independent `axes_within_channels` for NumPy references."""
    kept = np.atleast_1d([] if channel_axis is None else channel_axis) % max(x.ndim, 1)
    return tuple(axis for axis in range(x.ndim) if axis not in kept)
