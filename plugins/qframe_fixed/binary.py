"""Binary quantizers of QKeras, deterministic and stochastic."""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops

from qframe.quantizers import Traits, axes_within_channels
from qframe.quantizers.arithmetic import axes_of_array
from qframe.validation import finite_number
from qframe_fixed.base import (
    ScaledIntegerQuantizer,
    TanhGradient,
    one_from,
    reference_sign,
    sign,
)
from qframe_fixed.options import (
    Alpha,
    alpha_of,
    exponents_of,
    flag,
    set_constants,
)
from qframe_fixed.scales import (
    EPSILON,
    deviation,
    largest,
    least_squares,
    nearest_power,
    reference_least_squares,
    reference_power,
)
from qframe_fixed.squashed import probability


class _Signs(ScaledIntegerQuantizer):
    """Base of the binary quantizers: 1 for x >= 0, else `other`, times a scale."""

    precision = 1
    other: float = -1.0
    exponents: tuple[int | None, int | None] = (None, None)

    def parts(self, x: Any, noise: Any, channel_axis: Any) -> tuple[Any, Any]:
        signs = sign(x, self.other)
        scale: Any = self.factor
        if self.automatic:
            scale = least_squares(x, signs, channel_axis)
            if self.alpha == "auto_po2":
                scale = nearest_power(scale, *self.exponents)
        if noise is not None:
            random = self.random_signs(x, ops.cast(noise, x.dtype), channel_axis)
            signs = ops.where(ops.isnan(x), x, random)
        return signs, scale

    def random_signs(self, x: Any, noise: Any, channel_axis: Any) -> Any:
        """1 or `other`, drawn by the noise."""
        raise NotImplementedError

    def reference_parts(self, x: Any, axis: Any) -> tuple[Any, Any]:
        signs = reference_sign(x, self.other).astype(x.dtype)
        if not self.automatic:
            return signs, self.factor
        scale = reference_least_squares(x, signs, axes_of_array(x, axis))
        if self.alpha == "auto_po2":
            scale = reference_power(scale, *self.exponents)
        return signs, scale

    def sign_traits(self, **others: Any) -> Traits:
        signed = self.other == -1
        return self.level_traits(
            (int(self.other), 1),
            1.0,
            idempotent=signed and self.alpha != "auto_po2",
            odd=signed,
            expectation=self.expectation if self.draws else None,
            **others,
        )

    def expectation(self, x: Any, axis: Any = None) -> Any:
        """The mean over draws in training."""
        p = self.probability_of_one(x, axis)
        return (p + self.other * (1 - p)) * self.reference_parts(x, axis)[1]

    def probability_of_one(self, x: Any, axis: Any) -> Any:
        """The probability of a draw of 1, in NumPy."""
        raise NotImplementedError


class Binary(TanhGradient, _Signs):
    r"""The sign, times a scale.

    .. math:: q(x) = +s \text{ where } x \ge 0 \text{, else } -s
        \text{ (0 with \texttt{use_01})}

    .. math:: \frac{dq}{dx} = 1 - \tanh^2 x \text{ where } \alpha \text{ is None, else } 1

    The scale s is 1 without an alpha, or the number given as alpha. ``"auto"`` computes the
    scale of each output channel that minimizes the squared error,
    :math:`\mathrm{mean}\,|x|` for signs; ``"auto_po2"`` takes the power of two nearest to
    that. In training ``use_stochastic_rounding`` compares x with a threshold drawn between
    :math:`-m / 4` and :math:`m / 4`, where m is the largest magnitude of the channel, at
    most 1. Subnormal numbers count as 0; NaN stays NaN.

    Args:
        use_01: use 0 and 1 instead of -1 and +1. Default False.
        alpha: None, a positive number, ``"auto"`` or ``"auto_po2"``. Default None.
        training: False; Keras passes `training` to each call.
        use_stochastic_rounding: draw in training. Default False.
        scale_axis: None; the layer provides the channel axis.
        elements_per_scale: None.
        min_po2_exponent: bound of the exponent of ``"auto_po2"``. Default None.
        max_po2_exponent: as `min_po2_exponent`.
        seed: of the draws, an integer; None differs in each process. Default None.

    Raises:
        ArgumentError: an argument has another value.

    Example:
        >>> import qframe as qf
        >>> q = qf.quantizers.get("fixed:binary(alpha=0.5)")
        >>> [float(v) for v in q([-0.3, 0.0, 2.0])]
        [-0.5, 0.5, 0.5]

    Paper: Coelho et al., 2021, https://arxiv.org/abs/2006.10159
    """

    def __init__(
        self,
        use_01: bool = False,
        alpha: Alpha = None,
        training: bool = False,
        use_stochastic_rounding: bool = False,
        scale_axis: None = None,
        elements_per_scale: None = None,
        min_po2_exponent: int | None = None,
        max_po2_exponent: int | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        owner = type(self).__name__
        draws = flag(owner, "use_stochastic_rounding", use_stochastic_rounding)
        super().__init__(seed, draws, **kwargs)
        self.use_01 = flag(owner, "use_01", use_01)
        self.other = 0.0 if self.use_01 else -1.0
        self.alpha = alpha_of(owner, alpha)
        self.use_stochastic_rounding = draws
        self.exponents = exponents_of(owner, self.alpha, min_po2_exponent, max_po2_exponent)
        self.min_po2_exponent, self.max_po2_exponent = self.exponents
        set_constants(
            self,
            training=training,
            scale_axis=scale_axis,
            elements_per_scale=elements_per_scale,
        )

    @property
    def traits(self) -> Traits:
        if not self.draws:
            return self.sign_traits()
        # The threshold depends on the channel even if the scale does not.
        return self.sign_traits(elementwise=False, scaled=True, channelwise=True)

    def parts(self, x: Any, noise: Any, channel_axis: Any) -> tuple[Any, Any]:
        if self.draws:
            # Raise for a missing axis without noise too.
            axes_within_channels(len(x.shape), channel_axis)
        return super().parts(x, noise, channel_axis)

    def random_signs(self, x: Any, noise: Any, channel_axis: Any) -> Any:
        most = ops.minimum(largest(x, channel_axis), 1)
        # In a channel of zeros both signs are equally likely.
        spread = ops.where(ops.equal(most, 0), ops.ones_like(most), most) / 2
        return one_from(x, (noise - 0.5) * spread, self.other)

    def probability_of_one(self, x: Any, axis: Any) -> Any:
        axes = axes_of_array(x, axis)
        most = np.minimum(np.abs(x).max(axis=axes, keepdims=True), 1)
        return np.clip(0.5 + 2 * x / np.where(most == 0, 1, most), 0, 1)


class _StochasticSigns(_Signs):
    """Signs drawn in training with a probability that increases with x."""

    def __init__(
        self,
        alpha: Alpha = None,
        temperature: float = 6.0,
        use_real_sigmoid: bool = True,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        owner = type(self).__name__
        super().__init__(seed, True, **kwargs)
        self.alpha = alpha_of(owner, alpha)
        self.temperature = finite_number(owner, "temperature", temperature)
        self.use_real_sigmoid = flag(owner, "use_real_sigmoid", use_real_sigmoid)

    @property
    def traits(self) -> Traits:
        return self.sign_traits()

    def random_signs(self, x: Any, noise: Any, channel_axis: Any) -> Any:
        if self.automatic:
            x = x / deviation(x, channel_axis)
        p = probability(self.temperature * x, self.use_real_sigmoid)
        return ops.cast(ops.where(ops.greater(p, noise), 1.0, self.other), x.dtype)

    def probability_of_one(self, x: Any, axis: Any) -> Any:
        if self.automatic:
            axes = axes_of_array(x, axis)
            x = x / (x.std(axis=axes, keepdims=True) + EPSILON)
        return probability(self.temperature * x, self.use_real_sigmoid, np)


class StochasticBinary(_StochasticSigns):
    r"""The sign, drawn in training, times a scale.

    In training +s has the probability :math:`p = \sigma(t x / v)`, else it is -s; in
    inference:

    .. math:: q(x) = +s \text{ where } x \ge 0 \text{, else } -s

    .. math:: \frac{dq}{dx} = 1

    The scale s is that of `Binary`. The divisor v is the standard deviation of the output
    channel with an automatic alpha, else 1. Subnormal numbers count as 0; NaN stays NaN.

    Args:
        alpha: None, a positive number, ``"auto"`` or ``"auto_po2"``. Default None.
        temperature: t, a positive number; larger values draw less noise. Default 6.0.
        use_real_sigmoid: use the sigmoid instead of its hard form,
            :math:`\min(\max(x / 2 + 1/2, 0), 1)`. Default True.
        seed: of the draws, an integer; None differs in each process. Default None.

    Raises:
        ArgumentError: an argument has another value.

    Example:
        >>> import qframe as qf
        >>> q = qf.quantizers.StochasticBinary(seed=1)
        >>> [float(v) for v in q([-0.3, 0.0, 2.0])]
        [-1.0, 1.0, 1.0]
        >>> {float(v) for v in q([0.0] * 100, training=True)} == {-1.0, 1.0}
        True

    Paper: Courbariaux et al., 2016, https://arxiv.org/abs/1602.02830
    """


class Bernoulli(_StochasticSigns):
    r"""0 or a scale, drawn in training.

    In training s has the probability :math:`p = \sigma(t x / v)`, else it is 0; in
    inference:

    .. math:: q(x) = s \text{ where } x \ge 0 \text{, else } 0

    .. math:: \frac{dq}{dx} = 1

    The scale s is 1 without an alpha, or the number given as alpha. An automatic alpha
    computes the scale of each output channel that minimizes the squared error in inference,
    or the power of two nearest to that; the divisor v is then the standard deviation of the
    channel, else 1. Subnormal numbers count as 0; NaN stays NaN.

    Args:
        alpha: None, a positive number, ``"auto"`` or ``"auto_po2"``. Default None.
        temperature: t, a positive number; larger values draw less noise. Default 6.0.
        use_real_sigmoid: use the sigmoid instead of its hard form,
            :math:`\min(\max(x / 2 + 1/2, 0), 1)`. Default True.
        seed: of the draws, an integer; None differs in each process. Default None.

    Raises:
        ArgumentError: an argument has another value.

    Example:
        >>> import qframe as qf
        >>> q = qf.quantizers.Bernoulli(seed=1)
        >>> [float(v) for v in q([-0.3, 0.0, 2.0])]
        [0.0, 1.0, 1.0]

    Paper: Bengio et al., 2013, https://arxiv.org/abs/1308.3432
    """

    other = 0.0
