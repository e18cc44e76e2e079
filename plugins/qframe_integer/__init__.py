"""Affine quantization to integers of 2 to 16 bits, as integer hardware computes."""

from __future__ import annotations

from collections.abc import Iterator

from qframe.registry.components import Component, quantizer, recipe
from qframe.registry.hookspecs import hookimpl


@hookimpl
def qframe_components() -> Iterator[Component]:
    yield quantizer(
        "integer",
        "qframe_integer.quantizers:Integer",
        summary="integers with a scale and a zero point, from the range of the numbers",
        aliases=("Integer",),
    )
    yield recipe(
        "integer_inference",
        "qframe_integer.recipes:integer_inference",
        summary="integer weights by output channel, and integer inputs with ranges",
    )
