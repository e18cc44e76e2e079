"""The classes that a model predicts, and its accuracy."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from qframe.errors import DataError


def accuracy(outputs: NDArray[Any], labels: NDArray[Any]) -> float:
    """Return the part of the examples whose label is the most probable class."""
    if labels.ndim == outputs.ndim and labels.shape[-1] == 1:
        labels = labels[..., 0]
    if labels.ndim == outputs.ndim:  # one-hot
        labels = labels.argmax(-1)
    if labels.shape != outputs.shape[:-1]:
        raise DataError(
            f"the labels have the shape {labels.shape}, and the models return "
            f"{outputs.shape}. Give a class for each example, or leave the labels out."
        )
    return float((predicted(outputs, _classes(outputs, labels)) == labels).mean())


def _classes(outputs: NDArray[Any], labels: NDArray[Any]) -> tuple[float, ...]:
    """Return the valid labels in order, two for a single output."""
    count = max(outputs.shape[-1], 2)
    classes = tuple(range(count))
    if outputs.shape[-1] == 1 and (labels == -1).any():
        classes = (-1, 1)
    wrong = labels[~np.isin(labels, classes)]
    if wrong.size:
        wanted = " or ".join(map(str, classes)) if count == 2 else f"0 to {count - 1}"
        raise DataError(
            f"{wrong[0]} is a label, and the models return {outputs.shape}, for which a "
            f"class is {wanted}. Give the class of each example, or leave the labels out."
        )
    return classes


def predicted(
    outputs: NDArray[Any],
    classes: tuple[float, ...] = (0, 1),
    like: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Return the most probable class of each example.

    Args:
        outputs: (..., classes), or (..., 1) for two classes.
        classes: both classes of a single output.
        like: outputs that show whether a single one is a probability. Default None:
            `outputs`.
    """
    if outputs.shape[-1] > 1:
        return outputs.argmax(-1)
    shown = outputs if like is None else like
    probable = classes == (0, 1) and ((shown >= 0) & (shown <= 1)).all()
    return np.where(outputs[..., 0] > (0.5 if probable else 0), classes[1], classes[0])
