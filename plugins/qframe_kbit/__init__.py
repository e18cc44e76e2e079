"""Quantizers with a chosen number of bits, on fixed and on learned grids."""

from __future__ import annotations

from collections.abc import Iterator

from qframe.registry.components import Component, quantizer
from qframe.registry.hookspecs import hookimpl

# Name, module and class, summary, aliases besides the class name.
_QUANTIZERS = (
    (
        "dorefa",
        "dorefa:DoReFa",
        "k bits between 0 and 1, or of the tanh of weights (DoReFa-Net)",
        "DoReFaQuantizer",
        "dorefa_quantizer",
    ),
    (
        "dorefa_sign",
        "dorefa_sign:DoReFaSign",
        "sign times the mean magnitude of the tensor (DoReFa-Net with one bit)",
    ),
    ("pact", "pact:PACT", "k bits between 0 and a bound that learns (PACT)"),
    ("lsq", "lsq:LSQ", "k bits with a step that learns (LSQ)"),
    (
        "lsq_plus",
        "lsq_plus:LSQPlus",
        "k bits with a step and an offset that learn (LSQ+)",
    ),
    (
        "xnor_sign",
        "xnor:XnorSign",
        "sign times the mean magnitude of each channel; gradient of XNOR-Net",
    ),
    (
        "hwgq",
        "hwgq:HWGQ",
        "k bits above 0, with the best step for normal numbers (HWGQ)",
    ),
)


@hookimpl
def qframe_components() -> Iterator[Component]:
    for name, target, summary, *aliases in _QUANTIZERS:
        yield quantizer(
            name,
            f"qframe_kbit.{target}",
            summary=summary,
            aliases=(target.partition(":")[2], *aliases),
        )
