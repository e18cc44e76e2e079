"""A chosen number of bits: fixed grids, and grids that learn their step."""

from __future__ import annotations

from collections.abc import Iterator

from qframe.registry.components import Component, quantizer
from qframe.registry.hookspecs import hookimpl


@hookimpl
def qframe_components() -> Iterator[Component]:
    yield quantizer(
        "dorefa",
        "qframe_kbit.dorefa:DoReFa",
        summary="k bits between 0 and 1, or of the tanh of weights (DoReFa-Net)",
        aliases=("DoReFa", "DoReFaQuantizer", "dorefa_quantizer"),
    )
    yield quantizer(
        "dorefa_sign",
        "qframe_kbit.dorefa_sign:DoReFaSign",
        summary="sign times the mean magnitude of the tensor (DoReFa-Net with one bit)",
        aliases=("DoReFaSign",),
    )
    yield quantizer(
        "pact",
        "qframe_kbit.pact:PACT",
        summary="k bits between 0 and a bound that learns (PACT)",
        aliases=("PACT",),
    )
    yield quantizer(
        "lsq",
        "qframe_kbit.lsq:LSQ",
        summary="k bits with a step that learns (LSQ)",
        aliases=("LSQ",),
    )
    yield quantizer(
        "lsq_plus",
        "qframe_kbit.lsq_plus:LSQPlus",
        summary="k bits with a step and an offset that learn (LSQ+)",
        aliases=("LSQPlus",),
    )
    yield quantizer(
        "xnor_sign",
        "qframe_kbit.xnor:XnorSign",
        summary="sign times the mean magnitude of each channel; gradient of XNOR-Net",
        aliases=("XnorSign",),
    )
    yield quantizer(
        "hwgq",
        "qframe_kbit.hwgq:HWGQ",
        summary="k bits above 0, with the best step for normal numbers (HWGQ)",
        aliases=("HWGQ",),
    )
