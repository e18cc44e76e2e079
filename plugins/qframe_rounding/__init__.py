"""Rounders of weights, for post-training quantization."""

from __future__ import annotations

from collections.abc import Iterator

from qframe.registry.components import Component, quantizer, rounder
from qframe.registry.hookspecs import hookimpl


@hookimpl
def qframe_components() -> Iterator[Component]:
    yield rounder(
        "nearest",
        "qframe_rounding.nearest:Nearest",
        summary="to the nearest level",
    )
    yield rounder(
        "gptq",
        "qframe_rounding.gptq:GPTQ",
        summary="one input after the other, each corrects the error of those before",
    )
    yield rounder(
        "adaround",
        "qframe_rounding.adaround:AdaRound",
        summary="up or down, learned by gradient descent on the error of the outputs",
    )
    yield quantizer(
        "rounded",
        "qframe.quantizers.rounded:Rounded",
        summary="the fixed grid of another quantizer, with an offset for each weight",
        aliases=("Rounded",),
    )
    yield quantizer(
        "corrected",
        "qframe.quantizers.rounded:Corrected",
        summary="a correction of each bias, before another quantizer or none",
        aliases=("Corrected",),
    )
