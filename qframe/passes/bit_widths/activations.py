"""The functions at the ends of the outputs of a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from qframe import keras_internals
from qframe.layers.attachment import float_class_of

# Layers that change the shape of a tensor alone.
_RESHAPING = (keras.layers.Reshape, keras.layers.Flatten, keras.layers.Identity)


def activations_of_outputs(model: Any, count: int) -> Sequence[str | None]:
    """The name of the last function of each output, such as ``"softmax"``.

    None where it is not known, as for a model whose call is code.
    """
    graph = keras_internals.graph_of(model)
    if graph is None or len(graph.outputs) != count:
        return [None] * count
    return [_activation(graph, tensor) for tensor in graph.outputs]


def _activation(graph: Any, tensor: Any) -> str | None:
    node, index = next(
        (node, index)
        for node in keras_internals.nodes(graph)
        for index, output in enumerate(node.outputs)
        if output is tensor
    )
    operation = node.operation
    if node.is_input:
        return None
    inner = keras_internals.graph_of(operation)
    if inner is not None:
        return _activation(inner, inner.outputs[index])
    if isinstance(operation, _RESHAPING):
        return _activation(graph, node.arguments.keras_tensors[0])
    if not isinstance(operation, keras.layers.Layer):
        return type(operation).__name__.lower()  # an operation of keras.ops
    if isinstance(operation, keras.layers.Softmax):
        return "softmax"
    if not keras_internals.is_of_keras(float_class_of(operation)):
        return None
    return getattr(getattr(operation, "activation", None), "__name__", None)
