"""The quantizers of QKeras with its names and arguments, such as "name(4, 0, 1)"."""

from __future__ import annotations

from collections.abc import Iterator

from qframe.registry.components import Component, quantizer
from qframe.registry.hookspecs import hookimpl

# Name, module and class, summary.
_QUANTIZERS = (
    ("quantized_bits", "bits:QuantizedBits", "fixed point, with a sign or without"),
    ("quantized_relu", "relu:QuantizedRelu", "fixed point above 0, maybe leaky"),
    ("quantized_tanh", "squashed:QuantizedTanh", "fixed point of tanh, hard or real"),
    (
        "quantized_sigmoid",
        "squashed:QuantizedSigmoid",
        "fixed point of the sigmoid, hard or real",
    ),
    ("quantized_po2", "po2:QuantizedPo2", "plus or minus a power of two"),
    ("quantized_relu_po2", "po2:QuantizedReluPo2", "a power of two, maybe leaky"),
    ("binary", "binary:Binary", "-1 or +1, or 0 or 1, maybe with a scale by channel"),
    ("ternary", "ternary:Ternary", "-1, 0 or +1, maybe with a scale by channel"),
    ("stochastic_binary", "binary:StochasticBinary", "-1 or +1, drawn in training"),
    ("stochastic_ternary", "ternary:StochasticTernary", "-1, 0 or +1, drawn in training"),
    ("bernoulli", "binary:Bernoulli", "0 or 1, drawn in training"),
)


@hookimpl
def qframe_components() -> Iterator[Component]:
    for name, target, summary in _QUANTIZERS:
        yield quantizer(
            name,
            f"qframe_fixed.{target}",
            summary=f"{summary} (QKeras)",
            aliases=(target.partition(":")[2],),
            positional=True,
        )
