"""The examples of a measurement: read once, and run many times."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import keras
import numpy as np
from keras import tree
from numpy.typing import NDArray

from qframe import keras_internals
from qframe.errors import DataError, brief
from qframe.observation.shapes import check_data, checked_batches

Array = NDArray[Any]


@attrs.frozen(eq=False)
class Examples:
    """Examples in memory.

    Args:
        parts: the inputs, joined where all batches have the same shape.
        labels: the labels of each output, joined; None without labels.
        count: how many examples there are.
        batch_size: how many of them a model runs at once; None for the default of Keras.
    """

    parts: Sequence[Any]
    labels: Sequence[Array] | None
    count: int
    batch_size: int | None

    @classmethod
    def read(
        cls,
        model: Any,
        data: Any,
        labels: Any,
        labelled: bool,
        batch_size: int | None,
        steps: int | None,
    ) -> Examples:
        """Read what `Model.predict` takes, with labels beside it, or in it where needed.

        Raises:
            ArgumentError: `batch_size` or `steps` is not a positive integer.
            DataError: the data is empty, or has too few batches, or contains NaN or
                infinity; or the labels do not fit.
        """
        batch_size, steps = checked_batches(batch_size, steps)
        check_data(model, data, "sensitivity")
        try:
            batches = list(keras_internals.labelled_batches(data, batch_size, steps))
        # Keras raises almost anything for what it cannot read.
        except Exception as error:
            raise DataError(
                f"the sensitivity data cannot be read: {type(error).__name__}: "
                f"{brief(error)}. Give what Model.predict takes: arrays, or batches "
                "of them."
            ) from error
        if not batches:
            raise DataError("the sensitivity data is empty: it has no batch.")
        if steps is not None and len(batches) < steps:
            raise DataError(
                f"the sensitivity data has {len(batches)} batches, and steps={steps} asks "
                f"for more. Write steps={len(batches)}, or give more data."
            )
        inputs = [x for x, _ in batches]
        for x in inputs:
            check_data(model, x, "sensitivity")
            _check_finite(tree.flatten(x))
        sizes = [len(tree.flatten(x)[0]) for x in inputs]
        of_batches = [y for _, y in batches]
        if labels is None and labelled and all(y is not None for y in of_batches):
            labels = _joined(of_batches)
        graph = keras_internals.graph_of(model)
        labels = _in_order(labels, getattr(graph, "output_names", None))
        return cls(
            _merged(inputs),
            None if labels is None else _checked_labels(labels, sum(sizes)),
            sum(sizes),
            batch_size if hasattr(data, "shape") or batch_size else max(sizes),
        )

    def outputs(self, model: Any, seen: Any = None) -> list[Array]:
        """The outputs of a model, in order, in float64.

        Args:
            model: the model.
            seen: called after each batch. Default None.

        Raises:
            DataError: outputs of different batches have different shapes.
        """
        callbacks = None if seen is None else [_AfterBatch(seen)]
        results = [
            tree.flatten(
                model.predict(
                    part, batch_size=self.batch_size, verbose=0, callbacks=callbacks
                )
            )
            for part in self.parts
        ]
        outputs = []
        for parts in zip(*results, strict=True):
            shapes = {part.shape[1:] for part in parts}
            if len(shapes) > 1:
                raise DataError(
                    f"the outputs of batches have different shapes: {sorted(shapes)}. Give "
                    "batches of one shape, for example padded to one length."
                )
            outputs.append(np.concatenate(parts).astype(np.float64))
        return outputs

    @property
    def batches(self) -> int:
        """How many batches a run has."""
        size = self.batch_size or 32
        return sum(math.ceil(len(tree.flatten(part)[0]) / size) for part in self.parts)


class _AfterBatch(keras.callbacks.Callback):
    def __init__(self, seen: Any) -> None:
        super().__init__()
        self._seen = seen

    def on_predict_batch_end(self, batch: int, logs: Any = None) -> None:
        self._seen()


def _check_finite(arrays: Sequence[Array]) -> None:
    for array in arrays:
        if array.dtype.kind in "fV" and not np.isfinite(array.astype(np.float64)).all():
            raise DataError(
                "the sensitivity data contains NaN or infinity. Remove those examples."
            )


def _merged(inputs: Sequence[Any]) -> list[Any]:
    """The inputs of all batches as one, if they have the same shapes."""
    shapes = {tuple(x.shape[1:] for x in tree.flatten(part)) for part in inputs}
    return [_joined(inputs)] if len(shapes) == 1 else list(inputs)


def _joined(parts: Sequence[Any]) -> Any:
    return tree.map_structure(lambda *arrays: np.concatenate(arrays), *parts)


def _in_order(labels: Any, names: Sequence[str] | None) -> Any:
    """Labels by the names of outputs, in the order of the outputs; others as they are."""
    if not isinstance(labels, Mapping) or not names:
        return labels
    if {*labels} != {*names}:
        raise DataError(
            f"the labels are for {', '.join(map(str, labels))}, and the outputs are "
            f"{', '.join(names)}. Give labels for each of them, by its name."
        )
    return [labels[name] for name in names]


def _checked_labels(labels: Any, count: int) -> list[Array]:
    arrays = [np.asarray(part) for part in tree.flatten(_as_arrays(labels))]
    for array in arrays:
        if array.ndim == 0 or len(array) != count:
            raise DataError(
                f"there are {count} examples, and labels of the shape {array.shape}. Give "
                "one for each example."
            )
    return arrays


def _as_arrays(labels: Any) -> Any:
    """Labels as an array, if they are a list of numbers."""
    if isinstance(labels, (list, tuple)) and not any(hasattr(y, "shape") for y in labels):
        return np.asarray(labels)
    return labels
