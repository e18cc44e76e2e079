"""Checks of models, of the shapes of their data, and of the batches to read."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import keras

from qframe import keras_internals
from qframe.errors import ArgumentError, DataError, NotBuiltError, shown

Shapes = list[tuple[int | None, ...]]


def check_model(model: Any, purpose: str) -> None:
    """Raise unless an object is a built model."""
    if not isinstance(model, keras.Model):
        raise ArgumentError(f"{purpose} takes a keras.Model, found {model!r}.")
    if not model.built:
        raise NotBuiltError(
            f"{model.name!r} has no weights yet. Call it once with a batch, or load its "
            f"weights, before the {purpose}."
        )


def input_shapes(model: Any) -> Shapes | None:
    """Return the shapes of the inputs of a graph; None where the call is code."""
    graph = keras_internals.graph_of(model)
    return None if graph is None else [tuple(t.shape) for t in graph.inputs]


def output_shapes(model: Any) -> Shapes | None:
    """Return the shapes of the outputs of a graph; None where the call is code."""
    graph = keras_internals.graph_of(model)
    return None if graph is None else [tuple(t.shape) for t in graph.outputs]


def checked_batches(batch_size: Any, steps: Any) -> tuple[int | None, int | None]:
    """The size of batches and their number; raises for others than None and 1 or more.

    Keras takes 0 for "not given", and calls data empty whose batches it cannot count.
    """
    return (
        _count("batch_size", batch_size, "the default"),
        _count("steps", steps, "all batches"),
    )


def _count(name: str, value: Any, left_out: str) -> int | None:
    if value is None:
        return None
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    if not whole or value < 1:
        raise ArgumentError(
            f"{name} must be an integer of 1 or more, found {shown(value)}. Write for "
            f"example {name}=32, or leave it out for {left_out}."
        )
    return int(value)


def check_data(model: Any, data: Any, purpose: str = "") -> None:
    """Raise for what is not data, and for an array that does not fit the only input.

    Args:
        model: a model.
        data: as in `Model.predict`.
        purpose: the use of the data, for errors. Default: none is named.
    """
    the = f"the {purpose} data" if purpose else "the data"
    if data is None or isinstance(data, (str, bytes)):
        raise DataError(
            f"{the} is {data!r}. Give what Model.predict takes: arrays, or batches of them."
        )
    if isinstance(data, (list, tuple, dict)) and not data:
        raise DataError(f"{the} is empty: {data!r}.")
    shapes, array_shape = input_shapes(model), getattr(data, "shape", None)
    if shapes is None or array_shape is None or len(shapes) != 1:
        return
    found, wanted = tuple(array_shape), shapes[0]
    if not found or not found[0]:
        raise DataError(f"{the} is empty: it has the shape {found}.")
    # Keras adds or drops an axis of one element at the end.
    fits = any(
        len(shape) == len(wanted)
        and all(b in (None, a) for a, b in zip(shape[1:], wanted[1:], strict=True))
        for shape in (found, (*found, 1), found[:-1] if found[-1] == 1 else found)
    )
    if not fits:
        raise DataError(
            f"{the} has the shape {found}, and {model.name!r} takes "
            f"{wanted}. Give it as it was trained: of that shape, and scaled."
        )
