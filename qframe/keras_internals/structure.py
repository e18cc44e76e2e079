"""The parts of a layer or model."""

from __future__ import annotations

import contextlib
import inspect
import weakref
from collections.abc import Iterator
from typing import Any

from keras import Sequential
from keras.config import backend
from keras.layers import InputLayer

from qframe.keras_internals.training import models_alive


def all_layers(layer: Any) -> list[Any]:
    """A layer and all layers inside it, including quantizers."""
    return list(layer._flatten_layers())


def sublayers(layer: Any) -> list[Any]:
    """The direct sublayers of a layer, in the order of their attachment."""
    return list(layer._flatten_layers(include_self=False, recursive=False))


def put_last(layer: Any, parts: list[Any]) -> None:
    """Move the variables of these parts of a layer to the end, in this order."""
    order = {id(part): index for index, part in enumerate(parts)}
    # By the method of `list`, since that of Keras would track the parts again.
    list.sort(layer._layers, key=lambda part: order.get(id(part), -1))


def direct_weights(layer: Any) -> list[Any]:
    """The trainable variables of a layer without those of its sublayers, frozen or not.

    The public properties of Keras include all layers inside.
    """
    return list(layer._trainable_variables)


def own_variables(layer: Any) -> list[Any]:
    """The variables of a layer without those of its sublayers."""
    return [*layer._trainable_variables, *layer._non_trainable_variables]


def strategy_of(layer: Any) -> Any:
    """The `tf.distribute.Strategy` with a copy of a layer's variables in each replica.

    None on another backend, without replicas and without variables.
    """
    for variable in layer.variables if backend() == "tensorflow" else ():
        strategy = getattr(variable._value, "distribute_strategy", None)
        if strategy is not None:
            return strategy
    return None


def strategy_scope(layer: Any) -> contextlib.AbstractContextManager[Any]:
    """The scope of `strategy_of` a layer, where new variables are copied as its own are."""
    strategy = strategy_of(layer)
    return contextlib.nullcontext() if strategy is None else strategy.scope()


def build_shapes(layer: Any) -> dict[str, Any] | None:
    """The shapes that a layer was built with, by argument; None if not recorded."""
    shapes: dict[str, Any] | None = getattr(layer, "_build_shapes_dict", None)
    return shapes


def input_count(layer: Any) -> int:
    """The number of tensors in the list that a built layer takes; 0 for no list."""
    shapes = [*(build_shapes(layer) or {}).values()]
    is_list = len(shapes) == 1 and isinstance(shapes[0], (list, tuple))
    parts = shapes[0] if is_list else ()
    return len(parts) if all(isinstance(part, (list, tuple)) for part in parts) else 0


def input_shape(layer: Any) -> Any:
    """The shape of the first tensor of the first call in a graph; None without one."""
    calls = layer._inbound_nodes
    tensors = calls[0].arguments.keras_tensors if calls else ()
    return tuple(tensors[0].shape) if tensors else None


def is_input(operation: Any) -> bool:
    """Return whether an operation is the input of a graph."""
    return isinstance(operation, InputLayer)


def tensors_of_input(tensor: Any) -> Iterator[Any]:
    """The tensors of outer graphs that a model passes to one of its inputs."""
    for model in models_alive():
        graph = graph_of(model)
        if graph is None:
            continue
        for place, own in enumerate(graph.inputs):
            if own is tensor:
                for node in model._inbound_nodes:
                    tensors = node.arguments.keras_tensors
                    if len(tensors) == len(graph.inputs):
                        yield tensors[place]


def graph_of(layer: Any) -> Any:
    """The `keras.Function` that the call of a model runs; None for other calls."""
    if not runs_keras(layer):
        return None
    graph = getattr(layer, "_functional", None) or layer
    return graph if hasattr(graph, "_nodes_by_depth") else None


def own_arguments(node: Any) -> dict[str, Any]:
    """The arguments by keyword of a call in a graph that its caller gave.

    Keras adds the mask of the input to them.
    """
    given = {key: v for key, v in node.arguments.kwargs.items() if v is not None}
    first = node.arguments.keras_tensors[:1]
    if first and given.get("mask") is mask_of(first[0]):
        given.pop("mask", None)
    return given


def mask_of(tensor: Any) -> Any:
    """The mask that Keras attached to a tensor; None without."""
    return getattr(tensor, "_keras_mask", None)


def former_graphs(layer: Any) -> list[Any]:
    """The graphs that a Sequential had before layers were added to it.

    Keras makes a new one then, and tracks the former ones although nothing uses them.
    """
    graph = graph_of(layer) if isinstance(layer, Sequential) else None
    if graph is None:
        return []
    attributes = [*vars(layer).values(), *vars(layer).get("_modules", {}).values()]
    in_use = set(map(id, [*layer._layers, *attributes]))
    return [
        part
        for part in layer._tracker.config["layers"][1]
        if id(part) not in in_use
        and hasattr(part, "_nodes_by_depth")
        and part.inputs[0] is graph.inputs[0]
    ]


def saves_each_layer(layer: Any) -> bool:
    """Return whether the config of a layer includes that of each layer in it.

    That of a functional model does, unless its class overrides `get_config` and rebuilds
    the layers from that config. The answer is the same for all models of a class.
    """
    if graph_of(layer) is None:
        return False
    cls = getattr(type(layer), "float_class", type(layer))
    if cls not in _SAVES_EACH_LAYER:
        try:
            parts = cls.get_config(layer).get("layers")
        # Keras raises if there is no config, and the code of users can raise anything.
        except Exception:
            parts = None
        is_list = isinstance(parts, list)
        _SAVES_EACH_LAYER[cls] = is_list and all(isinstance(p, dict) for p in parts)
    return _SAVES_EACH_LAYER[cls]


_SAVES_EACH_LAYER: weakref.WeakKeyDictionary[Any, bool] = weakref.WeakKeyDictionary()


def nodes(graph: Any) -> Iterator[Any]:
    """The calls within a graph, each after its dependencies.

    Other models may call a layer of the graph too. A node has `operation`, `arguments`
    (with `args`, `kwargs` and the flat `keras_tensors`), `outputs` and `is_input`.
    """
    for depth in sorted(graph._nodes_by_depth, reverse=True):
        yield from graph._nodes_by_depth[depth]


def operation_name(operation: Any) -> str | None:
    """The name of the class of an operation of `keras.ops` or `keras.activations`.

    None for a layer, and for an operation of users. The classes are not public, and their
    names are those of the functions.
    """
    cls = type(operation)
    modules = ("keras.src.ops.", "keras.src.activations.")
    return cls.__name__ if cls.__module__.startswith(modules) else None


def runs_keras(layer: Any) -> bool:
    """Return whether the call of a layer is that of Keras, and not of a subclass.

    For a quantized layer, the call of its float class decides.
    """
    cls = type(layer)
    call = inspect.unwrap(vars(cls).get("float_class", cls).call)
    return is_of_keras(call)


def is_of_keras(part: Any) -> bool:
    """Return whether Keras has a class or function, and not a user or qframe."""
    return str(part.__module__).startswith("keras.")


@contextlib.contextmanager
def unlocked(layer: Any) -> Iterator[None]:
    """Let a built layer accept new parts, against which Keras locks it."""
    tracker = layer._tracker
    message, locked = tracker._lock_violation_msg, tracker.locked
    tracker.unlock()
    try:
        yield
    finally:
        if locked:
            tracker.lock(message)


def untrack(layer: Any, part: Any) -> None:
    """Stop tracking a part that is no longer an attribute of a layer."""
    layer._tracker.untrack(part)
