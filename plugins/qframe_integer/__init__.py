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
    yield quantizer(
        "integer_bias",
        "qframe_integer.bias:IntegerBias",
        summary="biases on the grid of the sums of products, as int32",
        aliases=("IntegerBias",),
    )
    for name, summary in (
        ("int8", "weights, activations and biases for full-integer inference in 8 bits"),
        ("w4a8", "as int8, with weights of 4 bits"),
        ("int16x8", "as int8, with symmetric activations of 16 bits"),
    ):
        yield recipe(name, f"qframe_integer.recipes:{name}", summary=summary)
    yield recipe(
        "integer_inference",
        "qframe_integer.recipes:integer_inference",
        summary="integer weights by output channel, and integer inputs with ranges",
    )
    yield recipe(
        "integer_weights",
        "qframe_integer.recipes:integer_weights",
        summary="integer weights by output channel, with the least squared error",
    )
    yield recipe(
        "w4",
        "qframe_integer.recipes:w4",
        summary="weights of 4 bits by output channel, and everything else in float",
        aliases=("int4",),
    )
