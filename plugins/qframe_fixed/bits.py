"""Fixed-point quantization."""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops

from qframe.errors import ArgumentError
from qframe.quantizers import Traits, clip_through
from qframe.quantizers.arithmetic import axes_of_array
from qframe.validation import integer_within
from qframe_fixed.base import ScaledIntegerQuantizer, reference_sign, rounded, sign
from qframe_fixed.options import Alpha, alpha_of, exponents_of, flag, set_constants
from qframe_fixed.scales import (
    largest,
    least_squares,
    nearest_power,
    reference_least_squares,
    reference_power,
)

# The number of iterations that fit a power-of-two scale to its integers.
_ITERATIONS = 5


class QuantizedBits(ScaledIntegerQuantizer):
    r"""Fixed-point numbers, with some of the bits left of the binary point.

    With :math:`u = b - 1` bits besides the sign, :math:`u = b` without one, and the step
    :math:`d = 2^{i-u}`:

    .. math:: q(x) = \alpha \, d \min(\max(\lfloor x / d \rceil, l), 2^u - 1), \quad
        l = -2^u, \; 1 - 2^u \text{ (symmetric) or } 0 \text{ (without a sign)}

    With ``alpha="auto"`` or ``"auto_po2"`` each output channel has a scale s, and
    :math:`n = 2^u - 1`:

    .. math:: q(x) = s \, \mathrm{sign}(x) \min(\lfloor |x| / s + 1/2 \rfloor, n)

    .. math:: \frac{dq}{dx} = 1

    "auto" takes :math:`s = \max |x| / n`. "auto_po2" starts from the power of two nearest
    to it; five times it then takes the one nearest to the least-squares scale of the
    integers. The gradient is 1 beyond the range too; a constraint keeps the weights inside.
    One bit with a sign is the sign of x, times alpha. In training
    ``use_stochastic_rounding`` draws one of both neighbours, so that the mean over draws
    is x. NaN stays NaN.

    Args:
        bits: b, an integer from 1 to 24. Default 8.
        integer: i, the bits left of the binary point, an integer from -32 to 32.
            Default 0.
        symmetric: exclude the lowest integer; implied by an automatic alpha.
            Default 0.
        keep_negative: include negative numbers. Default True.
        alpha: None, a positive number, ``"auto"`` or ``"auto_po2"``. Default None.
        use_stochastic_rounding: draw in training. Default False.
        scale_axis: None; the layer provides the channel axis.
        qnoise_factor: 1.0.
        var_name: None.
        use_ste: True.
        use_variables: False.
        elements_per_scale: None.
        min_po2_exponent: bound of the exponent of ``"auto_po2"``, of the scale divided by
            :math:`2^i`. Default None.
        max_po2_exponent: as `min_po2_exponent`.
        post_training_scale: None.
        seed: of the draws, an integer; None differs in each process. Default None.

    Raises:
        ArgumentError: an argument has another value; or an automatic alpha has one bit or
            no sign.

    Example:
        >>> import qframe as qf
        >>> q = qf.quantizers.get("quantized_bits(4, 0, 1)")
        >>> [float(v) for v in q([-2.0, 0.3, 0.6])]
        [-0.875, 0.25, 0.625]

    Paper: Coelho et al., 2021, https://arxiv.org/abs/2006.10159
    """

    def __init__(
        self,
        bits: int = 8,
        integer: int = 0,
        symmetric: bool = False,
        keep_negative: bool = True,
        alpha: Alpha = None,
        use_stochastic_rounding: bool = False,
        scale_axis: None = None,
        qnoise_factor: float = 1.0,
        var_name: None = None,
        use_ste: bool = True,
        use_variables: bool = False,
        elements_per_scale: None = None,
        min_po2_exponent: int | None = None,
        max_po2_exponent: int | None = None,
        post_training_scale: None = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        owner = type(self).__name__
        draws = flag(owner, "use_stochastic_rounding", use_stochastic_rounding)
        super().__init__(seed, draws, **kwargs)
        self.bits = self.precision = integer_within(owner, "bits", bits, 1, 24)
        self.integer = integer_within(owner, "integer", integer, -32, 32)
        self.symmetric = flag(owner, "symmetric", symmetric)
        self.keep_negative = flag(owner, "keep_negative", keep_negative)
        self.alpha = alpha_of(owner, alpha)
        self.use_stochastic_rounding = draws
        self.min_po2_exponent, self.max_po2_exponent = exponents_of(
            owner, self.alpha, min_po2_exponent, max_po2_exponent
        )
        set_constants(
            self,
            scale_axis=scale_axis,
            qnoise_factor=qnoise_factor,
            var_name=var_name,
            use_ste=use_ste,
            use_variables=use_variables,
            elements_per_scale=elements_per_scale,
            post_training_scale=post_training_scale,
        )
        if self.automatic and (self.bits == 1 or not self.keep_negative):
            raise ArgumentError(
                f"alpha={alpha!r} of {owner} needs a sign and two bits or more, found "
                f"bits={bits} and keep_negative={keep_negative}. Write binary(alpha="
                f"{alpha!r}) for one bit, quantized_relu for unsigned numbers."
            )
        if draws and self.is_sign:
            raise ArgumentError(
                f"{owner} of one bit does not round: write stochastic_binary instead of "
                "use_stochastic_rounding=True."
            )

    @property
    def is_sign(self) -> bool:
        """True for one bit with a sign, whose values are -1 and +1."""
        return self.bits == 1 and self.keep_negative

    @property
    def high(self) -> int:
        """The largest integer."""
        return int(2 ** (self.bits - self.keep_negative)) - 1

    @property
    def low(self) -> int:
        """The smallest integer."""
        if not self.keep_negative:
            return 0
        return -self.high if self.symmetric or self.automatic else -self.high - 1

    @property
    def step(self) -> float:
        """The step d."""
        return 2.0 ** (self.integer - self.bits + self.keep_negative)

    @property
    def traits(self) -> Traits:
        if self.is_sign:
            return self.level_traits((-1, 1), 1.0, idempotent=True, odd=True)
        return self.level_traits(
            range(self.low, self.high + 1),
            self.step,
            idempotent=self.alpha in (None, 1.0, "auto"),
            odd=self.low == -self.high,
            expectation=self.expectation if self.draws else None,
        )

    def parts(self, x: Any, noise: Any, channel_axis: Any) -> tuple[Any, Any]:
        if self.is_sign:
            return sign(x), self.factor
        if not self.automatic:
            integers = clip_through(rounded(x / self.step, noise), self.low, self.high)
            return integers, self.step * self.factor
        scale = self.scale(x, channel_axis)
        return ops.sign(x) * self.magnitude(x, scale, noise), scale

    def magnitude(self, x: Any, scale: Any, noise: Any = None) -> Any:
        """The magnitudes of the integers for a scale."""
        steps = ops.divide_no_nan(ops.abs(x), scale)
        steps = ops.floor(steps + 0.5) if noise is None else rounded(steps, noise)
        return clip_through(steps, 0, self.high)

    def scale(self, x: Any, channel_axis: Any) -> Any:
        """The scale s of each channel."""
        if self.alpha == "auto":
            return largest(x, channel_axis) / self.high
        # QKeras adds its epsilon, and bounds the exponent, after division by 2^integer.
        unit = 2.0**self.integer
        y = x / unit
        scale = nearest_power(largest(y, channel_axis) / self.high)
        for _ in range(_ITERATIONS):
            integers = ops.sign(y) * self.magnitude(y, scale)
            fit = least_squares(y, integers, channel_axis)
            scale = nearest_power(fit, self.min_po2_exponent, self.max_po2_exponent)
        return scale * unit

    def reference_parts(self, x: Any, axis: Any) -> tuple[Any, Any]:
        if self.is_sign:
            return reference_sign(x), self.factor
        if not self.automatic:
            integers = np.clip(np.rint(x / self.step), self.low, self.high)
            return integers, x.dtype.type(self.step * self.factor)

        def integers_for(scale: Any) -> Any:
            steps = np.abs(y) / np.where(scale > 0, scale, 1)
            return np.sign(y) * np.minimum(np.floor(steps + x.dtype.type(0.5)), self.high)

        unit = x.dtype.type(2.0**self.integer)
        y, axes = x / unit, axes_of_array(x, axis)
        scale = np.abs(y).max(axis=axes, keepdims=True) / x.dtype.type(self.high)
        if self.alpha == "auto_po2":
            scale = reference_power(scale)
            for _ in range(_ITERATIONS):
                fit = reference_least_squares(y, integers_for(scale), axes)
                scale = reference_power(fit, self.min_po2_exponent, self.max_po2_exponent)
        return integers_for(scale), scale * unit

    def expectation(self, x: Any, axis: Any = None) -> Any:
        """The mean over draws in training."""
        scale = self.reference_parts(x, axis)[1]
        unit = scale if self.automatic else self.step
        return np.clip(x / unit, self.low, self.high) * scale
