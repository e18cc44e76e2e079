"""The calls that the code of a layer makes, as those of a graph."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

from keras import KerasTensor, StatelessScope, tree
from keras.src.backend.common import global_state

from qframe.keras_internals.side_effects import side_effects_undone
from qframe.keras_internals.structure import all_layers

# The numbers in the names of objects without one.
_NAMES = "object_name_uids"


def calls_in_code(
    layer: Any, args: Any, kwargs: Any, opened: Iterable[Any], training: bool
) -> tuple[list[Any], list[Any]]:
    """The calls of layers and operations that the code of a layer makes.

    The code runs with symbolic tensors, for which a layer or operation that it calls is a
    node, as in the construction of a functional model. Side effects are undone.

    Args:
        layer: the layer, which is one of `opened`.
        args: its arguments, with the tensor of a `keras.Input` for each tensor.
        kwargs: its keyword arguments.
        opened: the layers whose code runs too, so that their outputs are those of the calls
            in them.
        training: whether the call is one of training, also for layers in the code of one
            that has no such argument.

    Returns:
        The nodes, among them those of `opened`, and the flat outputs.

    Raises:
        Exception: whatever the code raises, for example where it needs numbers.
    """
    given = [t for t in tree.flatten((args, kwargs)) if isinstance(t, KerasTensor)]
    parts = all_layers(layer)
    before = {id(node) for part in parts for node in _nodes_of(part)}
    names = dict(global_state.get_global_attribute(_NAMES) or {})
    with side_effects_undone(layer), StatelessScope(), contextlib.ExitStack() as stack:
        for part in opened:
            stack.enter_context(_open(part))
        try:
            # As the call of a layer around it would set it.
            layer._get_call_context().training = training
            kwargs = {key: value for key, value in kwargs.items() if key != "training"}
            outputs = tree.flatten(layer(*args, **kwargs))
            return list(_reached(given, before)), outputs
        finally:
            current = global_state.get_global_attribute(_NAMES)
            if current is not None:
                current.clear()
                current.update(names)


@contextlib.contextmanager
def _open(layer: Any) -> Iterator[None]:
    """Let a symbolic call of a layer run its code on the symbolic tensors themselves.

    Keras would run it on tensors of the backend to find the shapes of its outputs. It
    takes no symbolic tensor as a loss, which is computed by nodes all the same.
    """
    changes = {"compute_output_spec": layer.call, "add_loss": lambda *_: None}
    layer.__dict__.update(changes)
    try:
        yield
    finally:
        for name in changes:
            layer.__dict__.pop(name, None)


def _nodes_of(operation: Any) -> list[Any]:
    return [*operation._inbound_nodes, *operation._outbound_nodes]


def _reached(tensors: Iterable[Any], before: set[int]) -> Iterator[Any]:
    """The new nodes that read tensors, or what others make of them."""
    todo = [tensor._keras_history.operation for tensor in tensors]
    operations = {id(operation) for operation in todo}
    seen: set[int] = set()
    while todo:
        for node in todo.pop()._outbound_nodes:
            if id(node) in before or id(node) in seen:
                continue
            seen.add(id(node))
            yield node
            if id(node.operation) not in operations:
                operations.add(id(node.operation))
                todo.append(node.operation)
