"""Properties of functions, from calls with test numbers."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from qframe.quantizers import Quantizer
from qframe.quantizers.base import is_stateless
from qframe.quantizers.channels import ChannelAxis

# Small, ordinary and large, with zero, which a ReLU returns often.
_MAGNITUDES = np.array(
    [0, 1e-6, 1e-3, 0.01, 0.1, 0.25, 0.4, 0.5, 0.6, 0.75, 1, 1.5, 2, 3, 6, 10, 100, 1e4]
)


def is_constant(quantizer: Any) -> bool:
    """Return whether a quantizer has one value per channel for all numbers from 0 on."""
    values = _values(quantizer, _MAGNITUDES, 2)
    return values is not None and bool((values == values[:1]).all())


def is_nonnegative(function: Any, of_nonnegative: bool, rank: int = 2) -> bool:
    """Return whether a function returns no negative number.

    Args:
        function: a function of a tensor: a quantizer, an activation, the call of a layer.
        of_nonnegative: whether the inputs are nonnegative too.
        rank: the rank of the tensor.
    """
    numbers = _MAGNITUDES if of_nonnegative else np.concatenate([_MAGNITUDES, -_MAGNITUDES])
    values = _values(function, numbers, rank)
    return values is not None and values.size > 0 and bool((values >= 0).all())


def _values(function: Any, numbers: NDArray[np.float64], rank: int) -> Any:
    """Call a function with a tensor of numbers; return None where it fails."""
    if isinstance(function, keras.layers.Layer) and not isinstance(function, Quantizer):
        return None  # a call could build its state
    # Two entries along each further axis, since a softmax of one is always 1.
    random = np.random.default_rng(0)
    columns = [random.permutation(numbers) for _ in range(2 ** (rank - 1))]
    probe = np.stack(columns, -1).reshape((-1, *(2,) * (rank - 1))).astype("float32")
    try:
        return ops.convert_to_numpy(_call(function, ops.convert_to_tensor(probe)))
    except Exception:  # anybody's code
        return None


def _call(function: Any, probe: Any) -> Any:
    if isinstance(function, Quantizer) and function.traits.channelwise:
        return trial_of(function)(probe, channel_axis=-1)
    return trial_of(function)(probe)


def trial_of(quantizer: Any, axis: ChannelAxis = -1) -> Any:
    """Return a quantizer to call, a copy where the call would build it."""
    if not isinstance(quantizer, Quantizer) or quantizer.built or is_stateless(quantizer):
        return quantizer
    trial = type(quantizer)(**quantizer.parameters)
    trial.channel_axis = axis
    return trial
