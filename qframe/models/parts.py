"""The layers of a model that count separately, with their paths."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs
import keras

from qframe import keras_internals
from qframe.layers.tree import operations
from qframe.models.macs import counter_of


@attrs.frozen
class CountedLayer:
    """A layer, or an operation of a graph, that is counted separately.

    Args:
        path: the names of the layers around it and its own name, joined by ``/``.
        layer: the layer.
        weights: its variables, without those of its parts.
        composite: whether it has parts.
    """

    path: str
    layer: Any
    weights: tuple[Any, ...]
    composite: bool = False


def parts_of(layer: Any) -> list[Any]:
    """Return the layers in a layer; none for one that counts as a whole."""
    if keras_internals.graph_of(layer) is not None:
        layers = keras.layers.Layer
        return [op for op in operations(layer) if isinstance(op, layers) or counter_of(op)]
    wrapper = isinstance(layer, keras.layers.Wrapper)
    if not isinstance(layer, keras.layers.Layer) or (counter_of(layer) and not wrapper):
        return []
    inputs = keras.layers.InputLayer
    return [part for part in operations(layer) if not isinstance(part, inputs)]


def is_built(layer: Any) -> bool:
    """Return whether a layer has its variables, if it builds any."""
    built: bool = layer.built or type(layer).build is keras.layers.Layer.build
    return built


def counted_layers(model: Any) -> list[CountedLayer]:
    """Return the layers of a model, each once, under the first path that leads to it."""
    seen = {id(model)}
    whole = _counted_layer(model.name, model)
    if not whole.composite:
        return [whole]
    # A graph has its weights in its layers; code may add weights to the model.
    graph = keras_internals.graph_of(model)
    layers = [whole] if whole.weights and graph is None else []
    sequential = isinstance(model, keras.Sequential)
    for part in parts_of(model):
        if not (sequential and isinstance(part, keras.layers.InputLayer)):
            layers += _counted_layers(part.name, part, seen)
    return layers


def _counted_layers(path: str, layer: Any, seen: set[int]) -> Iterator[CountedLayer]:
    if id(layer) in seen:
        return
    seen.add(id(layer))
    whole = _counted_layer(path, layer)
    if whole.weights or not whole.composite:
        yield whole
    for part in parts_of(layer):
        if not isinstance(part, keras.layers.InputLayer):
            yield from _counted_layers(f"{path}/{part.name}", part, seen)


def _counted_layer(path: str, layer: Any) -> CountedLayer:
    parts = parts_of(layer)
    inner = {id(w) for part in parts for w in getattr(part, "weights", ())}
    weights = tuple(w for w in getattr(layer, "weights", ()) if id(w) not in inner)
    return CountedLayer(path, layer, weights, bool(parts))
