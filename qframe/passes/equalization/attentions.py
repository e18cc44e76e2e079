"""The projections of an attention of Keras, and the arguments that they read."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import keras

from qframe import keras_internals
from qframe.passes.calls import Calls

ATTENTIONS = tuple(
    getattr(keras.layers, name) for name in ("MultiHeadAttention", "GroupQueryAttention")
)
# The names of the dense layers that read each argument. Those of older versions have no
# gate.
_READERS: Mapping[str, tuple[str, ...]] = {
    "query": ("query", "gate"),
    "key": ("key",),
    "value": ("value",),
}


def projections(attention: Any, argument: str) -> list[Any]:
    """The dense layers of an attention that read an argument; none read a mask."""
    names = _READERS.get(argument, ())
    return [part for part in keras_internals.sublayers(attention) if part.name in names]


def arguments_of(node: Any) -> dict[str, Any]:
    """The arguments of a call of an attention by name, with the key that it uses."""
    base: Any = next(cls for cls in type(node.operation).__mro__ if cls in ATTENTIONS)
    signature = inspect.signature(base.call)
    bound = signature.bind(None, *node.arguments.args, **node.arguments.kwargs).arguments
    given = {name: value for name, value in bound.items() if value is not None}
    return {"key": given["value"], **given}


def tensor_of_projection(layer: Any, calls: Calls) -> Any:
    """The tensor that a projection of an attention reads; None for another layer."""
    for attention in calls.layers.values():
        if isinstance(attention, ATTENTIONS) and keras_internals.runs_keras(attention):
            for argument in _READERS:
                if any(part is layer for part in projections(attention, argument)):
                    nodes = calls.of(attention)
                    return arguments_of(nodes[0])[argument] if nodes else None
    return None
