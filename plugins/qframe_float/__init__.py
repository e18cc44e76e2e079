"""Low-bit floating point: minifloats, and the block formats of OCP MX."""

from __future__ import annotations

from collections.abc import Iterator

from qframe.registry.components import Component, quantizer
from qframe.registry.hookspecs import hookimpl

# Name, module and class, summary, aliases besides the class name.
_QUANTIZERS = (
    (
        "minifloat",
        "minifloat:Minifloat",
        "a float with chosen bits of exponent and mantissa",
    ),
    (
        "float8_e4m3",
        "minifloat:Float8E4M3",
        "FP8 E4M3: 8 bits, up to 448",
        "float8_e4m3fn",
    ),
    ("float8_e5m2", "minifloat:Float8E5M2", "FP8 E5M2: 8 bits, up to 57344"),
    (
        "float6_e2m3",
        "minifloat:Float6E2M3",
        "FP6 E2M3: 6 bits, up to 7.5",
        "float6_e2m3fn",
    ),
    ("float6_e3m2", "minifloat:Float6E3M2", "FP6 E3M2: 6 bits, up to 28", "float6_e3m2fn"),
    ("float4_e2m1", "minifloat:Float4E2M1", "FP4 E2M1: 4 bits, up to 6", "float4_e2m1fn"),
    ("mxfp8", "mx:MXFP8", "blocks of FP8 with a shared power of two (OCP MX)"),
    ("mxfp6", "mx:MXFP6", "blocks of FP6 with a shared power of two (OCP MX)"),
    ("mxfp4", "mx:MXFP4", "blocks of FP4 with a shared power of two (OCP MX)"),
    (
        "mxint8",
        "mx:MXINT8",
        "blocks of 8-bit integers with a shared power of two (OCP MX)",
    ),
)


@hookimpl
def qframe_components() -> Iterator[Component]:
    for name, target, summary, *aliases in _QUANTIZERS:
        yield quantizer(
            name,
            f"qframe_float.{target}",
            summary=summary,
            aliases=(target.partition(":")[2], *aliases),
        )
