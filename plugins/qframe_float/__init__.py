"""Floating point in few bits: small floats, and blocks of them that share a scale."""

from __future__ import annotations

from collections.abc import Iterator

from qframe.registry.components import Component, quantizer
from qframe.registry.hookspecs import hookimpl

_MINIFLOAT = "qframe_float.minifloat"
_MX = "qframe_float.mx"


@hookimpl
def qframe_components() -> Iterator[Component]:
    yield quantizer(
        "minifloat",
        f"{_MINIFLOAT}:Minifloat",
        summary="a float with chosen bits of exponent and mantissa",
        aliases=("Minifloat",),
    )
    yield quantizer(
        "float8_e4m3",
        f"{_MINIFLOAT}:Float8E4M3",
        summary="FP8 E4M3: 8 bits, up to 448",
        aliases=("Float8E4M3", "float8_e4m3fn"),
    )
    yield quantizer(
        "float8_e5m2",
        f"{_MINIFLOAT}:Float8E5M2",
        summary="FP8 E5M2: 8 bits, up to 57344",
        aliases=("Float8E5M2",),
    )
    yield quantizer(
        "float6_e2m3",
        f"{_MINIFLOAT}:Float6E2M3",
        summary="FP6 E2M3: 6 bits, up to 7.5",
        aliases=("Float6E2M3", "float6_e2m3fn"),
    )
    yield quantizer(
        "float6_e3m2",
        f"{_MINIFLOAT}:Float6E3M2",
        summary="FP6 E3M2: 6 bits, up to 28",
        aliases=("Float6E3M2", "float6_e3m2fn"),
    )
    yield quantizer(
        "float4_e2m1",
        f"{_MINIFLOAT}:Float4E2M1",
        summary="FP4 E2M1: 4 bits, up to 6",
        aliases=("Float4E2M1", "float4_e2m1fn"),
    )
    yield quantizer(
        "mxfp8",
        f"{_MX}:MXFP8",
        summary="blocks of FP8 with a shared power of two (OCP MX)",
        aliases=("MXFP8",),
    )
    yield quantizer(
        "mxfp6",
        f"{_MX}:MXFP6",
        summary="blocks of FP6 with a shared power of two (OCP MX)",
        aliases=("MXFP6",),
    )
    yield quantizer(
        "mxfp4",
        f"{_MX}:MXFP4",
        summary="blocks of FP4 with a shared power of two (OCP MX)",
        aliases=("MXFP4",),
    )
    yield quantizer(
        "mxint8",
        f"{_MX}:MXINT8",
        summary="blocks of 8-bit integers with a shared power of two (OCP MX)",
        aliases=("MXINT8",),
    )
