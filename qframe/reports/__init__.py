"""Reports of quantized models: their cost, and the error of each layer."""

from __future__ import annotations

from typing import Any

from qframe.reports.comparison import Comparison, comparison_of
from qframe.reports.model_report import ModelReport, report_of

__all__ = ["Comparison", "ModelReport", "compare", "report"]


def report(
    model: Any,
    data: Any = None,
    *,
    sensitivity: Any = None,
    front: Any = None,
    batch_size: int | None = None,
    verbose: Any = "auto",
) -> ModelReport:
    r"""Report the cost and the quantization errors of a model, as one HTML page.

    With data the model runs twice: as it is, and as its float twin, the same model with its
    quantizers off. For each layer with the outputs *y* of the twin and *q* of the model the
    page shows the ratio of signal to quantization noise,

    .. math:: \mathrm{SQNR} = 10 \log_{10} \frac{\sum y^2}{\sum (q - y)^2}

    in decibels, the worst layer first. A loop over time (a recurrent layer, or
    `TimeDistributed`) has one row, and the layers in it have none.

    Args:
        model: a built Keras model of any topology.
        data: as in `Model.predict`. Default None omits the activations.
        sensitivity: what `qframe.sensitivity` returns, to draw it. Default None.
        front: what `qframe.allocate` returns without a budget, to draw it. Default None.
        batch_size: for arrays; default None is Keras's 32.
        verbose: 1 for the progress bar of `Model.predict`, 0 for none. Default ``"auto"``:
            one on a terminal's standard error, after two seconds.

    Returns:
        The report: `html`, `save("report.html")`, and `to_dict()` for the figures.

    Raises:
        ArgumentError: `model` is not a Keras model, or nothing in it is quantized and
            there is data; or `sensitivity` or `front` is something else.
        NotBuiltError: it has no weights yet.
        DataError: the data is empty.

    Example:
        >>> import keras, numpy as np, qframe as qf
        >>> settings = {"kernel_quantizer": "integer(bits=8)"}
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
        >>> changed = qf.quantize(model, settings)
        >>> report = qf.report(model, np.ones((8, 4)), verbose=0)
        >>> report.weights[0].noise.decibels > 30
        True
        >>> "<svg" in report.html
        True
    """
    run = {"batch_size": batch_size, "verbose": verbose}
    return report_of(model, data, sensitivity, front, **run)


def compare(
    first: Any,
    second: Any,
    data: Any,
    labels: Any = None,
    *,
    batch_size: int | None = None,
    verbose: Any = "auto",
) -> Comparison:
    r"""Compare the cost of two models, and their layers on the same data.

    Layers match by path. For a layer with the outputs *y* in the first model and *q* in the
    second, the relative error is

    .. math:: \sqrt{\sum (q - y)^2 / \sum y^2}

    The models diverge at the first layer, in the order of the first model, where it is
    above 0.0001, more than rounding makes.

    Args:
        first: a built Keras model.
        second: a model with the same inputs and outputs.
        data: what `Model.predict` takes.
        labels: the class of each example, as numbers or one-hot, for the accuracy of both
            models. Default None. A single output with values from 0 to 1 is a probability
            with the threshold 0.5. Other values, or labels of -1 and 1, make it a logit
            with the threshold 0.
        batch_size: for arrays; default None is Keras's 32.
        verbose: as in `report`.

    Returns:
        The comparison. It prints as tables; `to_dict()` has the figures.

    Raises:
        ArgumentError: the models have different shapes, or no layer in common.
        NotBuiltError: a model has no weights yet.
        DataError: the data is empty, or the data or the labels do not fit.

    Example:
        >>> import keras, numpy as np, qframe as qf
        >>> def network():
        ...     dense = keras.layers.Dense(2, name="head")
        ...     return keras.Sequential([keras.Input((4,)), dense])
        >>> first, second = network(), network()
        >>> second.set_weights(first.get_weights())
        >>> changed = qf.quantize(second, {"kernel_quantizer": "ste_sign"})
        >>> compared = qf.compare(first, second, np.ones((8, 4)), verbose=0)
        >>> compared.first_divergence.path
        'head'
    """
    return comparison_of(
        first, second, data, labels, batch_size=batch_size, verbose=verbose
    )
