"""Whether models, and data for them, have the shapes of each other."""

from __future__ import annotations

from typing import Any

import keras

from qframe import keras_internals
from qframe.errors import ArgumentError, DataError, NotBuiltError

Shapes = list[tuple[int | None, ...]]


def check_model(model: Any, purpose: str) -> None:
    """Raise where something is no built model."""
    if not isinstance(model, keras.Model):
        raise ArgumentError(f"{purpose} takes a keras.Model, found {model!r}.")
    if not model.built:
        raise NotBuiltError(
            f"{model.name!r} has no weights yet. Call it once with a batch, or load its "
            f"weights, before the {purpose}."
        )


def input_shapes(model: Any) -> Shapes | None:
    """The shapes of the inputs of a graph; None where the call is code."""
    graph = keras_internals.graph_of(model)
    return None if graph is None else [tuple(t.shape) for t in graph.inputs]


def output_shapes(model: Any) -> Shapes | None:
    """The same of the outputs."""
    graph = keras_internals.graph_of(model)
    return None if graph is None else [tuple(t.shape) for t in graph.outputs]


def check_data(model: Any, data: Any) -> None:
    """Raise where one array does not fit the one input of a model."""
    shapes, found = input_shapes(model), getattr(data, "shape", None)
    if shapes is None or found is None or len(shapes) != 1:
        return
    given, wanted = tuple(found), shapes[0]
    if not given or not given[0]:
        raise DataError(f"the data is empty: it has the shape {given}.")
    # Keras adds or drops an axis of one element at the end.
    fits = any(
        len(shape) == len(wanted)
        and all(b in (None, a) for a, b in zip(shape[1:], wanted[1:], strict=True))
        for shape in (given, (*given, 1), given[:-1] if given[-1] == 1 else given)
    )
    if not fits:
        raise DataError(
            f"the data has the shape {given}, and {model.name!r} takes "
            f"{wanted}. Give it as it was trained: of that shape, and scaled."
        )
