"""Traced calls of models, and their renewal after a change of layers."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from qframe import keras_internals

# The attribute of a model with the temporary changes of its training step, whose method
# `trace` creates the function of that step again.
CHANGES = "_qframe_steps"

# Called with the layers that changed, before any model is traced again.
after_change: list[Callable[[Sequence[Any]], None]] = []


def models_with(layers: Iterable[Any]) -> list[Any]:
    """The models with traced calls that contain any of these layers."""
    ids = {id(layer) for layer in layers}
    return [
        model
        for model in keras_internals.tracing_models()
        if any(id(part) in ids for part in keras_internals.all_layers(model))
    ]


def synced_models_with(layers: Iterable[Any]) -> list[Any]:
    """The models with these layers, with the state back that JAX takes in training."""
    models = models_with(layers)
    for model in models:
        keras_internals.sync_state(model)
    return models


@contextlib.contextmanager
def changing(layers: Iterable[Any]) -> Iterator[None]:
    """Update all live models after layers have changed in the block."""
    layers = list(layers)
    models = synced_models_with(layers)
    yield
    for update in after_change:
        update(layers)
    retrace(models)


def retrace(models: Iterable[Any]) -> None:
    """Trace the calls of models again; a running `fit` does from its next step."""
    for model in models:
        for name in keras_internals.traced_functions(model):
            if name == "train_function":
                retrace_training(model)
            else:
                keras_internals.make_function(model, name)


def retrace_training(model: Any) -> None:
    """Trace the training step of a model again."""
    changes = model.__dict__.get(CHANGES)
    if changes is not None:
        changes.trace()
    else:
        keras_internals.make_function(model, "train_function")


@contextlib.contextmanager
def retraced(layers: Sequence[Any]) -> Iterator[None]:
    """Let models with these layers use new traces within the block only."""
    before = {id(m): (m, keras_internals.traced_functions(m)) for m in models_with(layers)}
    retrace(model for model, _ in before.values())
    try:
        yield
    finally:
        for model in models_with(layers):
            _, functions = before.get(id(model), (model, {}))
            for name in keras_internals.traced_functions(model):
                if name in functions:
                    setattr(model, name, functions[name])
                else:
                    # First traced in the block.
                    keras_internals.make_function(model, name)
