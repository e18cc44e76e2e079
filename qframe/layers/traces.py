"""What models keep of their traced calls, and whom else a change of layers concerns."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from qframe import keras_internals

# Under it a model holds what changes its training step for a while: `trace` of it makes
# the function of that step anew.
CHANGES = "_qframe_steps"

# Called with the layers that changed, before any model traces anew.
after_change: list[Callable[[Sequence[Any]], None]] = []


def models_with(layers: Iterable[Any]) -> list[Any]:
    """The models with traced calls that have any of these layers in them."""
    sought = {id(layer) for layer in layers}
    return [
        model
        for model in keras_internals.tracing_models()
        if any(id(part) in sought for part in keras_internals.all_layers(model))
    ]


def models_to_change(layers: Iterable[Any]) -> list[Any]:
    """The same, before these layers change; those that JAX trains get their state back."""
    found = models_with(layers)
    for model in found:
        keras_internals.take_state_back(model)
    return found


@contextlib.contextmanager
def changing(layers: Iterable[Any]) -> Iterator[None]:
    """Let these layers change within the block; every model alive learns of it after."""
    layers = list(layers)
    models = models_to_change(layers)
    yield
    for tell in after_change:
        tell(layers)
    trace_anew(models)


def trace_anew(models: Iterable[Any]) -> None:
    """Let models trace their calls anew; a running `fit` does from its next step."""
    for model in models:
        for name in keras_internals.traced_functions(model):
            if name == "train_function":
                trace_training_anew(model)
            else:
                keras_internals.make_function(model, name)


def trace_training_anew(model: Any) -> None:
    """Let a model trace its training step anew."""
    changes = model.__dict__.get(CHANGES)
    if changes is not None:
        changes.trace()
    else:
        keras_internals.make_function(model, "train_function")


@contextlib.contextmanager
def traced_anew(layers: Sequence[Any]) -> Iterator[None]:
    """Let all models with these layers trace anew within the block, and as before after."""
    before = {id(m): (m, keras_internals.traced_functions(m)) for m in models_with(layers)}
    trace_anew(model for model, _ in before.values())
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
