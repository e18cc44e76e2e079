"""Scopes in which the quantizers of a model do not run."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

from qframe import context
from qframe.errors import ArgumentError
from qframe.layers.quantized import Quantized
from qframe.layers.slots import slots_of
from qframe.layers.traces import retraced, synced_models_with
from qframe.layers.tree import sites


@contextlib.contextmanager
def float_weights(model: Any, *, activations: bool = True) -> Iterator[Any]:
    """Run a model with its quantizers off, to compare.

    Within the block every call of the model, `predict`, `evaluate` and `fit` included,
    computes with the latent weights. The quantizers stay in their slots and are saved.

    Args:
        model: a model with quantized layers.
        activations: whether the quantizers of inputs and outputs are off too.
            Default True.

    Yields:
        The model.

    Raises:
        ArgumentError: the model has no quantized layer.

    Example:
        >>> import keras, numpy as np, qframe as qf
        >>> dense = keras.layers.Dense(1, use_bias=False)
        >>> model = keras.Sequential([keras.Input((1,)), dense])
        >>> report = qf.quantize(model, {"kernel_quantizer": "ste_sign"})
        >>> model.set_weights([np.array([[0.25]])])
        >>> with qf.float_weights(model):
        ...     float(model.predict(np.ones((1, 1)), verbose=0)[0, 0])
        0.25
        >>> float(model.predict(np.ones((1, 1)), verbose=0)[0, 0])
        1.0
    """
    layers = quantized_layers(model)
    synced_models_with(layers)
    with retraced(layers), idle(layers, activations):
        yield model


def quantized_layers(model: Any) -> list[Any]:
    """The quantized layers of a model.

    Raises:
        ArgumentError: there are none.
    """
    layers = [s.layer for s in sites(model) if isinstance(s.layer, Quantized)]
    if not layers:
        raise ArgumentError(f"{model.name!r} has no quantized layer: it is in float.")
    return layers


def idle(
    layers: Iterable[Any], activations: bool = True
) -> contextlib.AbstractContextManager[None]:
    """Let the quantizers of layers rest in the calls and traces of the block."""
    return context.idle(
        {
            id(layer): frozenset(
                slot.name
                for slot in slots_of(layer)
                if activations or not slot.is_activation
            )
            for layer in layers
        }
    )
