"""One bit: signs, the Heaviside step, the constraint that keeps them learning, recipes."""

from __future__ import annotations

from collections.abc import Iterator

from qframe.registry.components import Component, constraint, quantizer, recipe
from qframe.registry.hookspecs import hookimpl

_QUANTIZERS = "qframe_binary.quantizers"


@hookimpl
def qframe_components() -> Iterator[Component]:
    yield quantizer(
        "ste_sign",
        f"{_QUANTIZERS}:SteSign",
        summary="sign; straight-through gradient, clipped",
        aliases=("SteSign",),
    )
    yield quantizer(
        "approx_sign",
        f"{_QUANTIZERS}:ApproxSign",
        summary="sign; triangular gradient (Bi-Real Net)",
        aliases=("ApproxSign",),
    )
    yield quantizer(
        "swish_sign",
        f"{_QUANTIZERS}:SwishSign",
        summary="sign; gradient of the SignSwish function (BNN+)",
        aliases=("SwishSign",),
    )
    yield quantizer(
        "ste_heaviside",
        f"{_QUANTIZERS}:SteHeaviside",
        summary="0 or 1; straight-through gradient, clipped",
        aliases=("SteHeaviside",),
    )
    yield quantizer(
        "magnitude_aware_sign",
        f"{_QUANTIZERS}:MagnitudeAwareSign",
        summary="sign times the mean magnitude of each output channel",
        aliases=("MagnitudeAwareSign",),
    )
    yield quantizer(
        "noop",
        f"{_QUANTIZERS}:NoOp",
        summary="identity that declares a precision",
        aliases=("NoOp", "no_op"),
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
    )
    yield recipe(
        "bwn",
        "qframe_binary.recipes:bwn",
        summary="binary weights, scaled by channel; float activations (XNOR-Net)",
    )
