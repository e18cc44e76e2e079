"""Arithmetic that quantizers share."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

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
