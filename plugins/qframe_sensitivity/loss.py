"""The loss of predictions with labels."""

from __future__ import annotations

from typing import Any

import numpy as np

from qframe.errors import DataError, shown
from qframe.passes import SensitivityMetric
from qframe.validation import one_of
from qframe_sensitivity import distributions

_TERMS = ("auto", "cross_entropy", "squared_error")


class Loss(SensitivityMetric):
    r"""The increase of the loss on labelled examples.

    .. math:: \frac{1}{N} \sum_n \ell(q_n, t_n) - \ell(y_n, t_n)

    t are the labels, y the outputs of the reference, and q those of the model with one
    layer in few bits. It is negative where the layer in few bits happens to be better.

    Args:
        term: ℓ: ``"cross_entropy"`` of class numbers, one-hot labels or probabilities, in
            nats; or ``"squared_error"``, the mean over the outputs of an example. Default
            ``"auto"``: the first for labels that are class numbers, and for outputs of a
            softmax or sigmoid; else the second.
        form: what the outputs are, as of `KL`. Default ``"auto"``.

    Raises:
        ArgumentError: an argument has another value.
        DataError: in a call, the labels do not fit the outputs.

    Example:
        >>> import numpy as np
        >>> from qframe_sensitivity.loss import Loss
        >>> half, quarter = np.array([[0.5, 0.5]]), np.array([[0.25, 0.75]])
        >>> round(Loss()(half, quarter, np.array([0]), "softmax"), 4)
        0.6931
    """

    labelled = True

    def __init__(self, term: str = "auto", form: str = "auto") -> None:
        self.term = one_of("Loss", "term", term, _TERMS)
        self.form = distributions.checked_form("Loss", form)

    def __call__(
        self, reference: Any, outputs: Any, labels: Any, activation: str | None
    ) -> float:
        labels = _numbers(labels)
        term = self._term(reference, labels, activation)
        before, after = (
            self._mean(x, labels, term, activation) for x in (reference, outputs)
        )
        return after - before

    def assumption(self, reference: Any, activation: str | None) -> str:
        form = self._form(reference, activation)
        return f"{distributions.text_of(reference, form)}, if the labels are classes"

    def _form(self, outputs: Any, activation: str | None) -> str:
        if self.form != "auto":
            return self.form
        return distributions.form_of(outputs, activation)

    def _term(self, outputs: Any, labels: Any, activation: str | None) -> str:
        if self.term != "auto":
            return self.term
        classes = self._form(outputs, activation) != "logits"
        numbers = np.issubdtype(labels.dtype, np.integer) or labels.dtype == bool
        return "cross_entropy" if classes or numbers else "squared_error"

    def _mean(self, outputs: Any, labels: Any, term: str, activation: str | None) -> float:
        if term == "squared_error":
            fitting = labels.reshape(outputs.shape) if labels.size == outputs.size else None
            if fitting is None:
                raise _unfit(outputs, labels)
            return float(np.square(outputs - fitting).mean())
        form = self._form(outputs, activation)
        distributions.check_form(outputs, form)
        logs = distributions.log_probabilities(outputs, form)
        if logs.ndim > outputs.ndim:
            # Of each number, its two classes; a label is the second.
            if labels.size != outputs.size:
                raise _unfit(outputs, labels)
            p = labels.reshape(outputs.shape).astype(np.float64)
            return float(-((1 - p) * logs[..., 0] + p * logs[..., 1]).mean())
        if labels.shape == outputs.shape:
            return float(-(labels * logs).sum(-1).mean())
        if labels.size != logs[..., 0].size:
            raise _unfit(outputs, labels)
        index = labels.reshape(logs.shape[:-1]).astype(np.int64)
        if index.min() < 0 or index.max() >= logs.shape[-1]:
            raise DataError(
                f"the labels are from {index.min()} to {index.max()}, and the outputs have "
                f"the classes 0 to {logs.shape[-1] - 1}. Give the labels as they were "
                "trained."
            )
        return float(-np.take_along_axis(logs, index[..., None], -1).mean())


def _numbers(labels: Any) -> Any:
    """Labels as an array of finite numbers."""
    array = np.asarray(labels)
    if array.dtype.kind not in "biuf" or not np.isfinite(array).all():
        raise DataError(
            f"the labels must be finite numbers, found {shown(array)}. Give a class number "
            "or a one-hot row for each, as they were trained."
        )
    return array


def _unfit(outputs: Any, labels: Any) -> DataError:
    return DataError(
        f"labels of the shape {labels.shape} do not fit outputs of the shape "
        f"{outputs.shape}. Give a class number or a one-hot row for each, or numbers of "
        "the shape of the outputs."
    )
