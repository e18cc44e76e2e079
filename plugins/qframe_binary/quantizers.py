"""Binary quantizers.

All signs share these conventions: ``sign(0) = sign(-0.0) = +1``. Subnormal numbers count
as zero, since many devices flush them to zero (except those of float16, which no device
flushes). Infinities become ``+1`` and ``-1``. NaN stays NaN with gradient zero, so that
a diverged model is noticed. The clip mask is closed: ``|x| = clip_value`` has a gradient.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops

from qframe.errors import ArgumentError
from qframe.math import heaviside, sign, smallest_normal
from qframe.quantizers import Quantizer, Traits
from qframe.quantizers.arithmetic import (
    mean_magnitude,
    mean_magnitude_array,
    within,
    within_array,
)
from qframe.validation import finite_number, positive_number


def reference_sign(x: Any) -> Any:
    """The NumPy reference of `sign`."""
    result = np.where(x > -smallest_normal(str(x.dtype)), 1, -1).astype(x.dtype)
    return np.where(np.isnan(x), x, result)


def _sign_traits(**others: Any) -> Traits:
    return Traits(
        levels=(-1.0, 1.0),
        range=(-1.0, 1.0),
        elementwise=True,
        idempotent=True,
        monotone=True,
        odd=True,
        reference=reference_sign,
        **others,
    )


class _Clipped(Quantizer):
    """Base of the quantizers with a clipped straight-through gradient."""

    precision = 1

    def __init__(self, clip_value: float | None = 1.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if clip_value is not None:
            clip_value = positive_number(type(self).__name__, "clip_value", clip_value)
        self.clip_value = clip_value

    @property
    def support(self) -> tuple[float, float] | None:
        clip = self.clip_value
        return None if clip is None else (-clip, clip)

    def gradient(self, inputs: Any) -> Any:
        return within(inputs, self.clip_value)

    def surrogate(self, x: Any) -> Any:
        """The NumPy reference of `gradient`."""
        return within_array(x, self.clip_value)


class SteSign(_Clipped):
    r"""Sign with a clipped straight-through gradient.

    .. math:: q(x) = +1 \text{ where } x \ge 0 \text{, else } -1

    .. math:: \frac{dq}{dx} = 1 \text{ where } |x| \le c \text{, else } 0

    Args:
        clip_value: c, a positive number; None passes the gradient everywhere.
            Default 1.0.

    Raises:
        ArgumentError: `clip_value` is neither None nor a positive number.

    Example:
        >>> import qframe as qf
        >>> q = qf.quantizers.SteSign()
        >>> [float(v) for v in q([-0.3, 0.0, 2.0])]
        [-1.0, 1.0, 1.0]

    Paper: Courbariaux et al., 2016, https://arxiv.org/abs/1602.02830
    """

    @property
    def traits(self) -> Traits:
        return _sign_traits(support=self.support, surrogate=self.surrogate)

    def value(self, inputs: Any) -> Any:
        return sign(inputs)


class ApproxSign(Quantizer):
    r"""Sign with a triangular gradient.

    .. math:: q(x) = +1 \text{ where } x \ge 0 \text{, else } -1

    .. math:: \frac{dq}{dx} = 2 - 2|x| \text{ where } |x| \le 1 \text{, else } 0

    Example:
        >>> import qframe as qf
        >>> q = qf.quantizers.ApproxSign()
        >>> [float(v) for v in q([-0.3, 0.0, 2.0])]
        [-1.0, 1.0, 1.0]

    Paper: Liu et al., 2018, https://arxiv.org/abs/1808.00278
    """

    precision = 1

    @property
    def traits(self) -> Traits:
        return _sign_traits(
            support=(-1.0, 1.0),
            surrogate=lambda x: (2 - 2 * np.fmin(np.abs(x), 1)).astype(x.dtype),
        )

    def value(self, inputs: Any) -> Any:
        return sign(inputs)

    def gradient(self, inputs: Any) -> Any:
        # Not relu(2 - 2|x|), whose gradient at NaN would be NaN.
        magnitude = ops.abs(inputs)
        inside = ops.less_equal(magnitude, 1)
        return ops.where(inside, 2 - 2 * magnitude, ops.cast(0, inputs.dtype))


class SwishSign(Quantizer):
    r"""Sign with the gradient of the SignSwish function.

    .. math:: q(x) = +1 \text{ where } x \ge 0 \text{, else } -1

    .. math:: \frac{dq}{dx} = \beta \, \frac{2 - \beta x \tanh(\beta x / 2)}
        {1 + \cosh(\beta x)}

    The gradient is negative beyond :math:`|\beta x| \approx 2.4` and fades to zero.

    Args:
        beta: the steepness, a positive number. Default 5.0.

    Raises:
        ArgumentError: `beta` is not a positive finite number.

    Example:
        >>> import qframe as qf
        >>> q = qf.quantizers.SwishSign(beta=3.0)
        >>> [float(v) for v in q([-0.3, 0.0, 2.0])]
        [-1.0, 1.0, 1.0]

    Paper: Darabi et al., 2018, https://arxiv.org/abs/1812.11800
    """

    precision = 1

    def __init__(self, beta: float = 5.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.beta = finite_number("SwishSign", "beta", beta)

    @property
    def traits(self) -> Traits:
        return _sign_traits(surrogate=self.surrogate)

    def value(self, inputs: Any) -> Any:
        return sign(inputs)

    def gradient(self, inputs: Any) -> Any:
        # With e = exp(-|bx|), 1 + cosh(bx) = (1 + e)^2 / 2e and tanh(|bx|/2) =
        # (1 - e) / (1 + e). Neither overflows, so large inputs give 0 and not NaN.
        # exp(-1e4) is zero in every dtype, and 1e4 fits into float16.
        z = ops.minimum(ops.abs(inputs) * self.beta, ops.cast(1e4, inputs.dtype))
        e = ops.exp(-z)
        slope = 2 * self.beta * e * (2 - z * (1 - e) / (1 + e)) / ops.square(1 + e)
        return ops.where(ops.isnan(inputs), ops.cast(0, inputs.dtype), slope)

    def surrogate(self, x: Any) -> Any:
        """The NumPy reference of `gradient`, in float64."""
        z = np.clip(np.abs(x.astype(np.float64)) * self.beta, 0, 700)
        slope = self.beta * (2 - z * np.tanh(z / 2)) / (1 + np.cosh(z))
        return np.where(np.isnan(x), 0, slope).astype(x.dtype)


class SteHeaviside(_Clipped):
    r"""Heaviside step with a clipped straight-through gradient.

    .. math:: q(x) = 1 \text{ where } x > 0 \text{, else } 0

    .. math:: \frac{dq}{dx} = 1 \text{ where } |x| \le c \text{, else } 0

    Args:
        clip_value: c, a positive number; None passes the gradient everywhere.
            Default 1.0.

    Raises:
        ArgumentError: `clip_value` is neither None nor a positive number.

    Example:
        >>> import qframe as qf
        >>> q = qf.quantizers.SteHeaviside()
        >>> [float(v) for v in q([-0.3, 0.0, 2.0])]
        [0.0, 0.0, 1.0]

    Paper: Courbariaux et al., 2016, https://arxiv.org/abs/1602.02830
    """

    @property
    def traits(self) -> Traits:
        return Traits(
            levels=(0.0, 1.0),
            range=(0.0, 1.0),
            support=self.support,
            elementwise=True,
            idempotent=True,
            monotone=True,
            reference=self.reference,
            surrogate=self.surrogate,
        )

    def reference(self, x: Any) -> Any:
        """The NumPy reference of `value`."""
        positive = (x >= smallest_normal(str(x.dtype))).astype(x.dtype)
        return np.where(np.isnan(x), x, positive)

    def value(self, inputs: Any) -> Any:
        return heaviside(inputs)


class MagnitudeAwareSign(_Clipped):
    r"""Sign, scaled by the mean magnitude of each output channel.

    .. math:: q(x) = s \, \mathrm{sign}(x), \quad s = \mathrm{mean}\,|x|

    .. math:: \frac{dq}{dx} = s \text{ where } |x| \le c \text{, else } 0

    The mean runs over all axes except that of the output channels, which the layer
    provides. No gradient flows through s. A channel of zeros gives zeros.

    Args:
        clip_value: c, a positive number; None passes the gradient everywhere.
            Default 1.0.

    Raises:
        ArgumentError: `clip_value` is neither None nor a positive number.

    Example:
        >>> import qframe as qf
        >>> q = qf.quantizers.MagnitudeAwareSign()
        >>> [[float(v) for v in row] for row in q([[1.0, -4.0], [-3.0, 2.0]])]
        [[2.0, -3.0], [-2.0, 3.0]]

    Paper: Liu et al., 2018, https://arxiv.org/abs/1808.00278
    """

    @property
    def traits(self) -> Traits:
        return Traits(
            levels=(-1.0, 1.0),
            range=(-1.0, 1.0),
            support=self.support,
            odd=True,
            scaled=True,
            channelwise=True,
            reference=lambda x, axis: _scaled(reference_sign(x), x, axis),
            surrogate=lambda x, axis: _scaled(self.surrogate(x), x, axis),
        )

    def value(self, inputs: Any, channel_axis: Any = -1) -> Any:
        return mean_magnitude(inputs, channel_axis) * sign(inputs)

    def gradient(self, inputs: Any, channel_axis: Any = -1) -> Any:
        inside = within(inputs, self.clip_value)
        return mean_magnitude(inputs, channel_axis) * inside

    def affine(self, inputs: Any, channel_axis: Any = -1) -> tuple[Any, Any]:
        return mean_magnitude(inputs, channel_axis), 0


def _scaled(y: Any, x: Any, channel_axis: Any) -> Any:
    """Multiply an array by the mean magnitudes of the channels of x."""
    return mean_magnitude_array(x, channel_axis).astype(x.dtype) * y


class NoOp(Quantizer):
    r"""Identity that declares a precision, for values that are quantized elsewhere.

    .. math:: q(x) = x

    .. math:: \frac{dq}{dx} = 1

    Args:
        precision: bits, a positive integer.

    Raises:
        ArgumentError: `precision` is not a positive integer.

    Example:
        >>> import qframe as qf
        >>> qf.quantizers.NoOp(precision=8).precision
        8
    """

    def __init__(self, precision: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not isinstance(precision, int) or isinstance(precision, bool) or precision < 1:
            raise ArgumentError(
                f"precision of NoOp must be a positive number of bits, found "
                f"{precision!r}. Write for example NoOp(precision=8)."
            )
        self.precision = precision

    @property
    def traits(self) -> Traits:
        return Traits(
            elementwise=True,
            idempotent=True,
            monotone=True,
            odd=True,
            tag=True,
            reference=np.array,
            surrogate=np.ones_like,
        )

    def value(self, inputs: Any) -> Any:
        return inputs

    def gradient(self, inputs: Any) -> Any:
        return ops.ones_like(inputs)
