"""Metrics of `qframe.sensitivity`: what a layer in few bits changes in the outputs."""

from __future__ import annotations

from collections.abc import Iterator

from qframe.registry.components import Component, sensitivity_metric
from qframe.registry.hookspecs import hookimpl


@hookimpl
def qframe_components() -> Iterator[Component]:
    yield sensitivity_metric(
        "kl",
        "qframe_sensitivity.divergence:KL",
        summary="the Kullback-Leibler divergence of the predicted distributions",
    )
    yield sensitivity_metric(
        "sqnr",
        "qframe_sensitivity.noise:SQNR",
        summary="the noise in the outputs by their signal, shown in decibels",
    )
    yield sensitivity_metric(
        "loss",
        "qframe_sensitivity.loss:Loss",
        summary="the increase of the loss; needs labels",
    )
