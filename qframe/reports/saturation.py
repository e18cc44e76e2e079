"""Numbers that a quantizer maps to the ends of its grid."""

from __future__ import annotations

from typing import Any

from keras import ops

from qframe.quantizers import Quantizer

# A part of the larger end: more than rounding in float32, far less than a step of 16 bits.
_TOLERANCE = 1e-6


def at_the_ends(quantizer: Any, inputs: Any, values: Any, channel_axis: Any = -1) -> Any:
    """Return which `values` of a quantizer for `inputs` are at an end of its grid.

    The ends are the declared ones times the scale, or else the smallest and the largest of
    `values`.
    """
    values = ops.cast(values, "float32")
    low, high = _ends(quantizer, inputs, channel_axis) or (ops.min(values), ops.max(values))
    slack = _TOLERANCE * ops.maximum(ops.abs(low), ops.abs(high))
    return ops.logical_or(values <= low + slack, values >= high - slack)


def _ends(quantizer: Any, inputs: Any, channel_axis: Any) -> tuple[Any, Any] | None:
    traits = quantizer.traits if isinstance(quantizer, Quantizer) else None
    if traits is None or traits.tag or traits.range is None:
        return None
    low, high = (ops.convert_to_tensor(end, "float32") for end in traits.range)
    if not traits.scaled:
        return low, high
    axis = {"channel_axis": channel_axis} if traits.channelwise else {}
    affine = quantizer.affine(inputs, **axis)
    if affine is None:
        return None
    scale, zero = (ops.cast(part, "float32") for part in affine)
    return scale * (low - zero), scale * (high - zero)
