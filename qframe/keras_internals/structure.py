"""What a layer or model is made of."""

from __future__ import annotations

import contextlib
import inspect
import weakref
from collections.abc import Iterator
from typing import Any

from keras.config import backend


def all_layers(layer: Any) -> list[Any]:
    """A layer and all that are in it, quantizers too."""
    held: list[Any] = layer._flatten_layers()
    return held


def sublayers(layer: Any) -> list[Any]:
    """The layers that a layer holds itself, in the order they were attached."""
    held: list[Any] = layer._flatten_layers(include_self=False, recursive=False)
    return held


def put_last(layer: Any, parts: list[Any]) -> None:
    """Let the variables of these parts of a layer come last, in this order."""
    places = {id(part): place for place, part in enumerate(parts)}
    # As a plain list: the one of Keras would track what it is given once more.
    list.sort(layer._layers, key=lambda part: places.get(id(part), -1))


def own_weights(layer: Any) -> list[Any]:
    """The variables that a layer holds itself to learn them, frozen ones too.

    Keras has no public way that does not go through all that is inside the layer.
    """
    held: list[Any] = layer._trainable_variables
    return held


def strategy_of(layer: Any) -> Any:
    """The `tf.distribute.Strategy` with a copy of a layer's variables in each replica.

    None where there is none: another backend, or no replicas, or no variables.
    """
    for variable in layer.variables if backend() == "tensorflow" else ():
        strategy = getattr(variable._value, "distribute_strategy", None)
        if strategy is not None:
            return strategy
    return None


def build_shapes(layer: Any) -> dict[str, Any] | None:
    """The shapes that a layer was built with, by argument; None where not recorded."""
    shapes: dict[str, Any] | None = getattr(layer, "_build_shapes_dict", None)
    return shapes


def graph_of(layer: Any) -> Any:
    """The `keras.Function` that a model's call runs; None where its call is code."""
    if not runs_keras(layer):
        return None
    graph = getattr(layer, "_functional", None) or layer
    return graph if hasattr(graph, "_nodes_by_depth") else None


def saves_each_layer(layer: Any) -> bool:
    """Whether what Keras saves of a layer has a config of each layer in it.

    A functional model does, unless its class overrides `get_config` and rebuilds the
    layers from that config. The answer is the same for all models of a class.
    """
    if graph_of(layer) is None:
        return False
    cls = getattr(type(layer), "float_class", type(layer))
    if cls not in _SAVES_EACH_LAYER:
        try:
            parts = cls.get_config(layer).get("layers")
        # A stranger's code can raise anything, Keras does where there is no config.
        except Exception:
            parts = None
        each = isinstance(parts, list) and all(isinstance(p, dict) for p in parts)
        _SAVES_EACH_LAYER[cls] = each
    return _SAVES_EACH_LAYER[cls]


_SAVES_EACH_LAYER: weakref.WeakKeyDictionary[Any, bool] = weakref.WeakKeyDictionary()


def nodes(graph: Any) -> Iterator[Any]:
    """The calls within a graph, each after those that it depends on.

    A layer that other models share has more calls than these. A node has `operation`,
    `arguments` (with `args`, `kwargs` and the flat `keras_tensors`), `outputs` and
    `is_input`.
    """
    for depth in sorted(graph._nodes_by_depth, reverse=True):
        yield from graph._nodes_by_depth[depth]


def runs_keras(layer: Any) -> bool:
    """Whether the call of a layer is Keras's own, and not that of a subclass.

    That of a quantized layer is the call of the layer that it was.
    """
    cls = type(layer)
    call = inspect.unwrap(vars(cls).get("float_class", cls).call)
    return str(call.__module__).startswith("keras.")


@contextlib.contextmanager
def unlocked(layer: Any) -> Iterator[None]:
    """Let a built layer take new parts; Keras locks it against them."""
    tracker = layer._tracker
    message, locked = tracker._lock_violation_msg, tracker.locked
    tracker.unlock()
    try:
        yield
    finally:
        if locked:
            tracker.lock(message)


def untrack(layer: Any, part: Any) -> None:
    """Forget a part that is no longer an attribute of a layer."""
    layer._tracker.untrack(part)
