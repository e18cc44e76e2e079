"""Ternary quantizers.

In both, zero and subnormal numbers give 0 for any threshold, and NaN stays NaN. Statistics
of a tensor are computed in at least float32.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops

from qframe.errors import ArgumentError
from qframe.quantizers import Learned, Quantizer, Traits
from qframe.quantizers.arithmetic import (
    headroom,
    mean_magnitude,
    tiny,
    wide,
    wide_array,
    with_gradient,
    within,
    within_array,
)
from qframe.validation import boolean, number_from_zero, positive_number


class SteTern(Quantizer):
    r"""Ternary values with a clipped straight-through gradient.

    .. math:: q(x) = +1 \text{ where } x \ge t, \quad -1 \text{ where } x \le -t,
        \quad \text{else } 0

    .. math:: \frac{dq}{dx} = 1 \text{ where } |x| \le c \text{, else } 0

    The threshold t is a number, or :math:`0.7 \, \mathrm{mean}\,|x|` over the whole tensor
    (ternary weight networks). No gradient flows through that mean. 0 becomes 0, even if t
    is 0.

    Args:
        threshold_value: t, a positive number or 0, compared in the dtype of the input.
            Not used by ternary weight networks, as in Larq. Default 0.05.
        ternary_weight_networks: compute the threshold from the tensor. Default False.
        clip_value: c, a positive number; None passes the gradient everywhere.
            Default 1.0.

    Raises:
        ArgumentError: an argument has another value.

    Example:
        >>> import qframe as qf
        >>> q = qf.quantizers.SteTern()
        >>> [float(v) for v in q([-0.3, 0.01, 2.0])]
        [-1.0, 0.0, 1.0]

    Paper: Li et al., 2016, https://arxiv.org/abs/1605.04711
    """

    precision = 2

    def __init__(
        self,
        threshold_value: float = 0.05,
        ternary_weight_networks: bool = False,
        clip_value: float | None = 1.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.threshold_value = number_from_zero(
            "SteTern", "threshold_value", threshold_value
        )
        self.ternary_weight_networks = boolean(
            "SteTern", "ternary_weight_networks", ternary_weight_networks
        )
        if clip_value is not None:
            clip_value = positive_number("SteTern", "clip_value", clip_value)
        self.clip_value = clip_value

    @property
    def traits(self) -> Traits:
        clip = self.clip_value
        return Traits(
            levels=(-1.0, 0.0, 1.0),
            range=(-1.0, 1.0),
            support=None if clip is None else (-clip, clip),
            elementwise=not self.ternary_weight_networks,
            # A threshold beyond 1 maps the levels themselves to 0.
            idempotent=self.ternary_weight_networks or self.threshold_value <= 1,
            monotone=True,
            odd=True,
            reference=self.reference,
            surrogate=self.surrogate,
        )

    def value(self, inputs: Any) -> Any:
        x = wide(inputs)
        threshold: Any = self.threshold_value
        if self.ternary_weight_networks:
            threshold = 0.7 * mean_magnitude(x, None)
        # Round to the dtype of the input, in which a number may equal the threshold.
        threshold = ops.cast(ops.cast(threshold, inputs.dtype), x.dtype)
        edge = ops.maximum(threshold, ops.cast(tiny(x), x.dtype))
        one, zero = ops.ones_like(x), ops.zeros_like(x)
        middle = ops.where(ops.isnan(x), x, zero)
        value = ops.where(ops.less_equal(x, -edge), -one, middle)
        return ops.cast(ops.where(ops.greater_equal(x, edge), one, value), inputs.dtype)

    def gradient(self, inputs: Any) -> Any:
        return within(inputs, self.clip_value)

    def reference(self, x: Any) -> Any:
        """The NumPy reference of `value`."""
        threshold: Any = self.threshold_value
        if self.ternary_weight_networks:
            threshold = 0.7 * np.abs(x).mean(dtype=np.float64)
        beyond = (np.abs(x) >= x.dtype.type(threshold)) & (np.abs(x) >= 2.0**-126)
        return np.where(np.isnan(x), x, np.sign(x) * beyond).astype(x.dtype)

    def surrogate(self, x: Any) -> Any:
        """The NumPy reference of `gradient`."""
        return within_array(x, self.clip_value)


class TrainedTernary(Quantizer):
    r"""Ternary values with a learned scale for each side.

    .. math:: q(x) = +W_p \text{ where } x > \Delta, \quad
        -W_n \text{ where } x < -\Delta, \quad \text{else } 0, \quad
        \Delta = t \max |x|

    .. math:: \frac{dq}{dx} = W_p \text{ where } x > \Delta, \quad
        W_n \text{ where } x < -\Delta, \quad \text{else } 1

    .. math:: \frac{dq}{dW_p} = 1 \text{ where } x > \Delta, \quad
        \frac{dq}{dW_n} = -1 \text{ where } x < -\Delta, \quad \text{else } 0

    Each scale starts at the mean magnitude of the numbers beyond the threshold on its side,
    of those on both sides if its side is empty, and at 0 if both are. A scale can cross 0
    in training: the formulas apply to any sign. A negative scale mirrors its side. At 0 the
    latent weights of that side get no gradient, but the scale still learns. No gradient
    flows through the threshold.

    Args:
        threshold: t, a number from 0 to 1, 1 excluded. Default 0.05.

    Raises:
        ArgumentError: `threshold` is outside of this range.

    Example:
        >>> import qframe as qf
        >>> q = qf.quantizers.TrainedTernary(threshold=0.5)
        >>> [float(v) for v in q([-4.0, -1.0, 0.5, 4.0, 6.0])]
        [-4.0, 0.0, 0.0, 5.0, 5.0]

    Paper: Zhu et al., 2016, https://arxiv.org/abs/1612.01064
    """

    precision = 2

    def __init__(self, threshold: float = 0.05, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.threshold = number_from_zero("TrainedTernary", "threshold", threshold)
        if self.threshold >= 1:
            raise ArgumentError(
                f"threshold of TrainedTernary must be below 1, found {threshold!r}: it is "
                "a fraction of the largest magnitude, which nothing exceeds. Write for "
                "example TrainedTernary(threshold=0.05)."
            )

    @property
    def traits(self) -> Traits:
        return Traits(
            trainable=True,
            updates=True,
            reference=self.reference,
            surrogate=self.surrogate,
        )

    def build(self, input_shape: Any) -> None:
        self.positive = Learned(self, "positive")
        self.negative = Learned(self, "negative")

    def call(self, inputs: Any, training: bool = False) -> Any:
        x = wide(inputs)
        size, zero = ops.abs(x), ops.zeros_like(x)
        factor = headroom(size)
        edge = ops.maximum(self.threshold * ops.max(size, initial=0), tiny(x))
        above, below = ops.greater(x, edge), ops.less(x, -edge)

        def mean(mask: Any) -> tuple[Any, Any]:
            count = ops.sum(ops.cast(mask, x.dtype))
            total = ops.sum(ops.where(mask, size * factor, zero))
            return count, total / ops.maximum(count, 1) / factor

        _, mean_of_both = mean(ops.logical_or(above, below))

        def scale(parameter: Learned, mask: Any) -> Any:
            count, mean_of_side = mean(mask)
            start = ops.where(ops.greater(count, 0), mean_of_side, mean_of_both)
            return ops.cast(parameter(start, training), x.dtype)

        positive, negative = scale(self.positive, above), scale(self.negative, below)
        middle = ops.stop_gradient(ops.where(ops.isnan(x), x, zero))
        value = ops.where(above, positive, ops.where(below, -negative, middle))
        slope = ops.where(above, positive, ops.where(below, negative, ops.ones_like(x)))
        # Its value is 0 and its gradient for x is 1.
        zero_of_x = with_gradient(zero, x)
        return ops.cast(value + zero_of_x * ops.stop_gradient(slope), inputs.dtype)

    def reference(self, x: Any) -> Any:
        """The NumPy reference of the values."""
        above, below, positive, negative = self._reference_parts(x)
        value = np.select([above, below, np.isnan(x)], [positive, -negative, x], 0)
        return value.astype(x.dtype)

    def surrogate(self, x: Any) -> Any:
        """The NumPy reference of the gradient."""
        above, below, positive, negative = self._reference_parts(x)
        return np.select([above, below], [positive, negative], 1).astype(x.dtype)

    def _reference_parts(self, x: Any) -> tuple[Any, Any, Any, Any]:
        x = wide_array(x)
        edge = x.dtype.type(self.threshold) * np.abs(x).max(initial=0)
        edge = np.maximum(edge, np.finfo(x.dtype).tiny)
        sides = x > edge, x < -edge
        beyond = np.abs(x[sides[0] | sides[1]])
        scales = []
        for parameter, side in zip((self.positive, self.negative), sides, strict=True):
            start = np.abs(x[side]) if side.any() else beyond
            learned = parameter(start.mean(dtype=np.float64) if start.size else 0.0)
            scales.append(np.asarray(ops.convert_to_numpy(learned), np.float64))
        return (*sides, *scales)
