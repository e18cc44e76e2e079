"""Activations for binary networks."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

__all__ = ["get", "hard_tanh", "leaky_tanh"]

_registered = keras.saving.register_keras_serializable("qframe")


@_registered
def hard_tanh(x: Any) -> Any:
    r"""The identity between -1 and 1, constant beyond.

    .. math:: f(x) = \max(-1, \min(x, 1))

    Example:
        >>> import keras, qframe as qf
        >>> layer = keras.layers.Dense(2, activation=qf.activations.hard_tanh)
        >>> float(qf.activations.hard_tanh(-3.0))
        -1.0
    """
    return ops.clip(ops.convert_to_tensor(x), -1, 1)


@_registered
def leaky_tanh(x: Any, alpha: float = 0.2) -> Any:
    r"""The identity between -1 and 1, linear with a smaller slope beyond.

    .. math:: f(x) = \max(-1, \min(x, 1)) + \alpha \, (x - \max(-1, \min(x, 1)))

    Args:
        x: a tensor or array of numbers.
        alpha: the slope beyond -1 and 1. Default 0.2.

    Example:
        >>> import qframe as qf
        >>> round(float(qf.activations.leaky_tanh(2.0)), 6)
        1.2
    """
    x = ops.convert_to_tensor(x)
    # Computed separately, since infinity minus infinity is NaN.
    beyond = (ops.maximum(x, 1) - 1) + (ops.minimum(x, -1) + 1)
    return ops.clip(x, -1, 1) + alpha * beyond


def get(identifier: Any) -> Any:
    """The activation of a name or object: one of Keras, else one of this module.

    Raises:
        ValueError: neither knows it.

    Example:
        >>> import qframe as qf
        >>> qf.activations.get("leaky_tanh") is qf.activations.leaky_tanh
        True
    """
    activations = {"hard_tanh": hard_tanh, "leaky_tanh": leaky_tanh}
    try:
        return keras.activations.get(identifier)
    except ValueError:
        if isinstance(identifier, str) and identifier in activations:
            return activations[identifier]
        raise
