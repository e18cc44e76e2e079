"""Ternary quantizers, with a fixed threshold or with learned scales."""

from __future__ import annotations

from collections.abc import Iterator

from qframe.registry.components import Component, quantizer, recipe
from qframe.registry.hookspecs import hookimpl

_QUANTIZERS = "qframe_ternary.quantizers"


@hookimpl
def qframe_components() -> Iterator[Component]:
    yield quantizer(
        "ste_tern",
        f"{_QUANTIZERS}:SteTern",
        summary="-1, 0 or +1; straight-through gradient, clipped",
        aliases=("SteTern",),
    )
    yield quantizer(
        "trained_ternary",
        f"{_QUANTIZERS}:TrainedTernary",
        summary="-1, 0 or +1, times a learned scale for each side (TTQ)",
        aliases=("TrainedTernary",),
    )
    yield recipe(
        "ternary",
        "qframe_ternary.recipes:ternary",
        summary="ternary weights with learned scales; float activations (TTQ)",
    )
