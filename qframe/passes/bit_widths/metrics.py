"""Metrics of sensitivity: how much outputs differ from those of a reference."""

from __future__ import annotations

from typing import Any, ClassVar

from numpy.typing import NDArray

from qframe.errors import ArgumentError
from qframe.registry.configurable import Configurable, interpret

Array = NDArray[Any]
KIND = "sensitivity_metric"


class SensitivityMetric(Configurable):
    """The loss of an output of a model that quantization changes.

    `qframe.allocate` adds the losses of layers, so that a metric should be about additive,
    such as a divergence or a ratio of noise to signal, and not its logarithm. A subclass
    defines ``__call__``, and stores each parameter of ``__init__`` under the same name.

    Example:
        >>> import numpy as np, qframe as qf
        >>> class Disagreement(qf.passes.SensitivityMetric):
        ...     def __call__(self, reference, outputs, labels, activation):
        ...         return float(np.mean(reference.argmax(-1) != outputs.argmax(-1)))
        >>> Disagreement()(np.eye(2), np.eye(2), None, "softmax")
        0.0
    """

    kind: ClassVar[str] = KIND
    # Whether it needs labels.
    labelled: ClassVar[bool] = False
    # Whether tables show -10 log10 of the loss, the ratio of signal to noise.
    decibels: ClassVar[bool] = False

    def __call__(
        self, reference: Array, outputs: Array, labels: Array | None, activation: str | None
    ) -> float:
        """The loss of an output; larger is worse.

        Args:
            reference: the output of the model with its weights in float, in float64, of
                all examples.
            outputs: the same with one layer in few bits.
            labels: the labels of the examples; None where none are given, and for a
                metric that is not `labelled` also where the data has some.
            activation: the function that the output ends with, such as ``"softmax"``;
                None where it is not known.
        """
        raise NotImplementedError

    def assumption(self, reference: Array, activation: str | None) -> str:
        """What the metric takes an output for, as the notes of a table say; "" by default.

        Raises:
            DataError: the metric has no meaning for this output.
        """
        return ""


def metric_of(metric: Any) -> SensitivityMetric:
    """The metric of an identifier, a class or an object.

    Raises:
        QFrameError: it is something else, or no plugin offers the name.
    """
    found = interpret(KIND, metric)
    if isinstance(found, SensitivityMetric):
        return found
    raise ArgumentError(
        f"metric is the name of a sensitivity metric, such as 'kl', or a "
        f"qframe.passes.SensitivityMetric; found {metric!r}. `qframe list --kind {KIND}` "
        "shows all."
    )
