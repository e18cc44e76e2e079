"""Which layers a model is made of, and under which path."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs
import keras

from qframe import keras_internals
from qframe.layers.tree import operations
from qframe.models.macs import counter_of


@attrs.frozen
class Row:
    """A layer, or an operation of a graph, that is counted on its own.

    Args:
        path: the names of the layers that it is in and its own, joined by ``/``.
        layer: the layer.
        weights: its variables, without those of its parts.
        composite: whether it has parts.
    """

    path: str
    layer: Any
    weights: tuple[Any, ...]
    composite: bool = False


def parts_of(layer: Any) -> list[Any]:
    """The layers that a layer is made of; none for one that counts as a whole."""
    if keras_internals.graph_of(layer) is not None:
        layers = keras.layers.Layer
        return [op for op in operations(layer) if isinstance(op, layers) or counter_of(op)]
    wrapper = isinstance(layer, keras.layers.Wrapper)
    if not isinstance(layer, keras.layers.Layer) or (counter_of(layer) and not wrapper):
        return []
    inputs = keras.layers.InputLayer
    return [part for part in operations(layer) if not isinstance(part, inputs)]


def is_built(layer: Any) -> bool:
    """Whether a layer has its variables, as those that never build any have."""
    built: bool = layer.built or type(layer).build is keras.layers.Layer.build
    return built


def rows_of(model: Any) -> list[Row]:
    """The layers of a model, each once, under the first path that leads to it."""
    seen = {id(model)}
    own = _row(model.name, model)
    if not parts_of(model):
        return [own]
    # A graph has its weights in its layers; code may add weights of its own.
    rows = [own] if own.weights and keras_internals.graph_of(model) is None else []
    sequential = isinstance(model, keras.Sequential)
    for part in parts_of(model):
        if not (sequential and isinstance(part, keras.layers.InputLayer)):
            rows += _rows(part.name, part, seen)
    return rows


def _rows(path: str, layer: Any, seen: set[int]) -> Iterator[Row]:
    if id(layer) in seen:
        return
    seen.add(id(layer))
    parts = parts_of(layer)
    row = _row(path, layer)
    if row.weights or not parts:
        yield row
    for part in parts:
        if not isinstance(part, keras.layers.InputLayer):
            yield from _rows(f"{path}/{part.name}", part, seen)


def _row(path: str, layer: Any) -> Row:
    parts = parts_of(layer)
    inner = {id(w) for part in parts for w in getattr(part, "weights", ())}
    weights = getattr(layer, "weights", ())
    own = tuple(weight for weight in weights if id(weight) not in inner)
    return Row(path, layer, own, bool(parts))
