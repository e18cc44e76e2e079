"""Binary quantizers, weight clipping, and the recipes of binary networks."""

from __future__ import annotations

from collections.abc import Iterator

from qframe.registry.components import Component, constraint, quantizer, recipe
from qframe.registry.hookspecs import hookimpl

# Name, class, summary, aliases besides the class name.
_QUANTIZERS = (
    ("ste_sign", "SteSign", "sign; straight-through gradient, clipped"),
    ("approx_sign", "ApproxSign", "sign; triangular gradient (Bi-Real Net)"),
    ("swish_sign", "SwishSign", "sign; gradient of the SignSwish function (BNN+)"),
    ("ste_heaviside", "SteHeaviside", "0 or 1; straight-through gradient, clipped"),
    (
        "magnitude_aware_sign",
        "MagnitudeAwareSign",
        "sign times the mean magnitude of each output channel",
    ),
    ("noop", "NoOp", "identity that declares a precision", "no_op"),
)


@hookimpl
def qframe_components() -> Iterator[Component]:
    for name, cls, summary, *aliases in _QUANTIZERS:
        yield quantizer(
            name,
            f"qframe_binary.quantizers:{cls}",
            summary=summary,
            aliases=(cls, *aliases),
        )
    yield constraint(
        "weight_clip",
        "qframe_binary.constraints:WeightClip",
        summary="clip latent weights to [-clip_value, clip_value]",
        aliases=("WeightClip",),
    )
    yield recipe(
        "bnn",
        "qframe_binary.recipes:bnn",
        summary="binary weights and activations (BinaryNet)",
        aliases=("binary",),
    )
    yield recipe(
        "bwn",
        "qframe_binary.recipes:bwn",
        summary="binary weights, scaled by channel; float activations (XNOR-Net)",
    )
