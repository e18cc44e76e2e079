"""Weight clipping."""

from __future__ import annotations

from typing import Any

from keras import ops

from qframe.constraints import Constraint
from qframe.validation import positive_number


class WeightClip(Constraint):
    r"""Clips each weight to an interval around zero.

    .. math:: w \leftarrow \min(\max(w, -c), c)

    A latent weight beyond the clip value of its sign quantizer gets no gradient. This
    constraint keeps it within the clip value. NaN stays NaN.

    Args:
        clip_value: c, a positive number. Default 1.0.

    Raises:
        ArgumentError: `clip_value` is not a positive number.

    Example:
        >>> import qframe as qf
        >>> clip = qf.constraints.WeightClip(0.5)
        >>> float(clip(ops.convert_to_tensor(-3.0)))
        -0.5

    Paper: Courbariaux et al., 2016, https://arxiv.org/abs/1602.02830
    """

    def __init__(self, clip_value: float = 1.0) -> None:
        self.clip_value = positive_number("WeightClip", "clip_value", clip_value)

    def __call__(self, w: Any) -> Any:
        return ops.clip(w, -self.clip_value, self.clip_value)
