"""The weight quantizer of XNOR-Net."""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops

from qframe.quantizers import Quantizer, Traits, axes_within_channels
from qframe.quantizers.arithmetic import (
    mean_magnitude,
    mean_magnitude_array,
    tiny,
    wide,
    wide_array,
    within,
    within_array,
)
from qframe.validation import positive_number


class XnorSign(Quantizer):
    r"""Sign times the mean magnitude of each output channel, with XNOR-Net's gradient.

    .. math:: q(x) = s \, \mathrm{sign}(x), \quad s = \mathrm{mean}\,|x|

    .. math:: \frac{dq}{dx} = \frac{1}{n} + s \text{ where } |x| \le c \text{, else }
        \frac{1}{n}

    The mean runs over the n numbers of an output channel; the layer provides the channel
    axis. Of the gradient through s, only the term 1/n of the number itself is kept, as in
    the paper. A channel of zeros gives zeros; otherwise 0 and subnormal numbers count as
    positive, and NaN stays NaN.

    Args:
        clip_value: c, a positive number; None passes the gradient everywhere.
            Default 1.0.

    Raises:
        ArgumentError: `clip_value` is neither None nor a positive number.

    Example:
        >>> import qframe as qf
        >>> q = qf.quantizers.XnorSign()
        >>> [[float(v) for v in row] for row in q([[1.0, -4.0], [-3.0, 2.0]])]
        [[2.0, -3.0], [-2.0, 3.0]]

    Paper: Rastegari et al., 2016, https://arxiv.org/abs/1603.05279
    """

    precision = 1

    def __init__(self, clip_value: float | None = 1.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if clip_value is not None:
            clip_value = positive_number("XnorSign", "clip_value", clip_value)
        self.clip_value = clip_value

    @property
    def traits(self) -> Traits:
        return Traits(
            levels=(-1.0, 1.0),
            range=(-1.0, 1.0),
            odd=True,
            scaled=True,
            channelwise=True,
            reference=self.reference,
            surrogate=self.surrogate,
        )

    def value(self, inputs: Any, channel_axis: Any = -1) -> Any:
        x = wide(inputs)
        scale = mean_magnitude(x, channel_axis)
        edge = -tiny(x)
        value = ops.where(ops.greater(x, edge), scale, x)
        return ops.cast(ops.where(ops.less_equal(x, edge), -scale, value), inputs.dtype)

    def gradient(self, inputs: Any, channel_axis: Any = -1) -> Any:
        x = wide(inputs)
        inside = ops.cast(within(inputs, self.clip_value), x.dtype)
        slope = _mean_weight(x, channel_axis) + mean_magnitude(x, channel_axis) * inside
        return ops.cast(slope, inputs.dtype)

    def affine(self, inputs: Any, channel_axis: Any = -1) -> tuple[Any, int]:
        return mean_magnitude(wide(inputs), channel_axis), 0

    def reference(self, x: Any, axis: Any) -> Any:
        """The NumPy reference of `value`."""
        scale = mean_magnitude_array(x, axis)
        sign = np.where(wide_array(x) > -(2.0**-126), 1, -1)
        return np.where(np.isnan(x), x, scale * sign).astype(x.dtype)

    def surrogate(self, x: Any, axis: Any) -> Any:
        """The NumPy reference of `gradient`."""
        scale = mean_magnitude_array(x, axis)
        inside = within_array(x, self.clip_value)
        return (scale.size / x.size + scale * inside).astype(x.dtype)


def _mean_weight(x: Any, channel_axis: Any) -> Any:
    """The weight 1/n of each number in the mean of its channel."""
    reduced = axes_within_channels(len(x.shape), channel_axis)
    ones = ops.ones_like(x)
    return 1 / ops.sum(ones, axis=reduced, keepdims=True) if reduced else ones
