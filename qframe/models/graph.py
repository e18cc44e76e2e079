"""Every use of private Keras in this package; a contract test covers it."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any


def sublayers(layer: Any) -> list[Any]:
    """The layers that a layer holds itself, in the order they were attached."""
    held: list[Any] = layer._flatten_layers(include_self=False, recursive=False)
    return held


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


def nodes(graph: Any) -> Iterator[Any]:
    """The calls within a graph, each after those that it depends on.

    A layer that other models share has more calls than these. A node has `operation`,
    `arguments` (with `args`, `kwargs` and the flat `keras_tensors`), `outputs` and
    `is_input`.
    """
    for depth in sorted(graph._nodes_by_depth, reverse=True):
        yield from graph._nodes_by_depth[depth]


def runs_keras(layer: Any) -> bool:
    """Whether the call of a layer is Keras's own, and not that of a subclass."""
    call = inspect.unwrap(type(layer).call)
    return str(call.__module__).startswith("keras.")
