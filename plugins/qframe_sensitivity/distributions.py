"""The distributions that outputs stand for."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from qframe.errors import DataError
from qframe.validation import one_of

Array = NDArray[Any]
# How far the sum of probabilities may be from 1, as in half precision.
_TOLERANCE = 1e-2
_SMALLEST = 1e-12

FORMS = ("auto", "softmax", "sigmoid", "logits")


def checked_form(owner: str, form: Any) -> str:
    """One of `FORMS`; raises `ArgumentError` for something else."""
    return one_of(owner, "form", form, FORMS)


def form_of(outputs: Array, activation: str | None) -> str:
    """What outputs are: ``"softmax"``, ``"sigmoid"`` or ``"logits"``."""
    if activation in ("softmax", "sigmoid"):
        return activation
    # The last function of a model whose call is code is not known, but its numbers are.
    sums = outputs.sum(-1) if outputs.ndim > 1 and outputs.shape[-1] > 1 else np.zeros(1)
    if activation is None and outputs.min() >= 0 and np.abs(sums - 1).max() < _TOLERANCE:
        return "softmax"
    return "logits"


def text_of(outputs: Array, form: str) -> str:
    """What a form says of outputs, for notes."""
    if form == "softmax":
        return "probabilities that add up to 1 (softmax)"
    if form == "sigmoid":
        return "a probability each (sigmoid)"
    if outputs.shape[-1] == 1:
        return "the logit of one of two classes"
    return f"logits of {outputs.shape[-1]} classes"


def check_form(outputs: Array, form: str) -> None:
    """Raise `DataError` for outputs that are not of a form."""
    if form == "softmax" and (outputs.ndim < 2 or outputs.shape[-1] == 1):
        raise DataError(
            "a softmax of one number is 1 for every example, so that its divergence is "
            "always 0. Give the model a sigmoid, or write metric='sqnr'."
        )
    if form != "logits" and not -_TOLERANCE <= outputs.min() <= outputs.max() <= 1.01:
        raise DataError(
            f"form={form!r} means probabilities, and the outputs are from "
            f"{outputs.min():.4g} to {outputs.max():.4g}. Write form='logits'."
        )


def log_probabilities(outputs: Array, form: str) -> Array:
    """The logarithms of the probabilities, with those of the classes along the last axis.

    Of a sigmoid, and of one logit, the last axis has both of two classes.
    """
    if form == "softmax":
        p = np.maximum(outputs, _SMALLEST)
        return np.log(p / p.sum(-1, keepdims=True))
    if form == "sigmoid":
        p = np.clip(outputs, _SMALLEST, 1 - _SMALLEST)
        return np.log(np.stack([1 - p, p], -1))
    if outputs.shape[-1] == 1:
        return -np.logaddexp(0, np.stack([outputs, -outputs], -1))
    top = outputs - outputs.max(-1, keepdims=True)
    return top - np.log(np.exp(top).sum(-1, keepdims=True))
