"""A constraint, which projects latent weights after each optimizer step."""

from __future__ import annotations

from typing import Any

from keras import ops

from qframe.constraints import Constraint
from qframe.quantizers import axes_within_channels
from qframe.validation import positive_number


class UnitMax(Constraint):
    r"""Scales each output channel so that its largest magnitude is within a limit.

    .. math:: w_c \leftarrow w_c \min\left(1, \frac{l}{\max |w_c|}\right)

    The output channels are the last axis, as in a dense layer and a convolution. NaN
    stays NaN and does not affect the maximum. A channel with an infinite weight is clipped
    to [-l, l] instead of scaled, which would make it zero.

    Args:
        limit: l, a positive number. Default 1.0.

    Raises:
        ArgumentError: `limit` is not a positive number.

    Example:
        >>> import qframe as qf
        >>> unit_max = qf.constraints.get("unit_max")
        >>> scaled = unit_max(ops.convert_to_tensor([[4.0, 0.5], [-2.0, 0.25]]))
        >>> ops.convert_to_numpy(scaled).tolist()
        [[1.0, 0.5], [-0.5, 0.25]]
    """

    def __init__(self, limit: float = 1.0) -> None:
        self.limit = positive_number("UnitMax", "limit", limit)

    def __call__(self, w: Any) -> Any:
        # Optimizers pass the variable itself, which some functions of JAX do not accept.
        w = ops.convert_to_tensor(w)
        if 0 in w.shape:
            return w
        magnitude = ops.where(ops.isnan(w), ops.zeros_like(w), ops.abs(w))
        axes = axes_within_channels(len(w.shape), -1)
        if axes:
            magnitude = ops.max(magnitude, axis=axes, keepdims=True)
        scale = ops.minimum(self.limit / magnitude, 1)
        scale = ops.where(ops.isinf(magnitude), ops.ones_like(scale), scale)
        # Rounding may leave the largest magnitude slightly beyond the limit.
        return ops.clip(w * scale, -self.limit, self.limit)
