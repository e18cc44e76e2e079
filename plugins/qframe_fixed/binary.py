"""Two values: signs, and what is drawn with a probability."""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops

from qframe.quantizers import Traits, axes_within_channels
from qframe.quantizers.arithmetic import axes_of_array, wide, wide_array
from qframe_fixed.drawn import Stepped, one_from, reference_sign, sign
from qframe_fixed.options import (
    Alpha,
    alpha_of,
    exponents_of,
    finite_number,
    flag,
    hold,
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


class _Signs(Stepped):
    """What all share: 1 from 0 on, `other` below, times a scale."""

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
            drawn = self.drawn(x, ops.cast(noise, x.dtype), channel_axis)
            signs = ops.where(ops.isnan(x), x, drawn)
        return signs, scale

    def drawn(self, x: Any, noise: Any, channel_axis: Any) -> Any:
        """1 or `other`, by draws."""
        raise NotImplementedError

    def reference_parts(self, x: Any, axis: Any) -> tuple[Any, Any]:
        signs = reference_sign(x, self.other).astype(x.dtype)
        if not self.automatic:
            return signs, self.factor
        scale = reference_least_squares(x, signs, axes_of_array(x, axis))
        if self.alpha == "auto_po2":
            scale = reference_power(scale, *self.exponents)
        return signs, scale

    def promised(self, **others: Any) -> Traits:
        signed = self.other == -1
        return self.promises(
            (int(self.other), 1),
            1.0,
            idempotent=signed and self.alpha != "auto_po2",
            odd=signed,
            expectation=self.expectation if self.draws else None,
            **others,
        )

    def expectation(self, x: Any, axis: Any = None) -> Any:
        """The mean over draws in training."""
        one = self.share(x, axis)
        return (one + self.other * (1 - one)) * self.reference_parts(x, axis)[1]

    def share(self, x: Any, axis: Any) -> Any:
        """How often 1 is drawn, in NumPy."""
        raise NotImplementedError


class Binary(_Signs):
    r"""The sign, times a scale.

    .. math:: q(x) = +s \text{ where } x \ge 0 \text{, else } -s
        \text{ (0 with \texttt{use_01})}

    .. math:: \frac{dq}{dx} = 1 - \tanh^2 x \text{ where } \alpha \text{ is None, else } 1

    The scale s is 1 without an alpha; with a number that number; with ``"auto"`` the one of
    each output channel for which q is nearest to x, :math:`\mathrm{mean}\,|x|` for signs;
    with ``"auto_po2"`` the power of two nearest to that. In training
    ``use_stochastic_rounding`` compares x with a threshold that is drawn between
    :math:`-m / 4` and :math:`m / 4`, where m is the largest magnitude of the channel, 1 at
    most. Subnormal numbers count as 0; NaN stays NaN.

    Args:
        use_01: 0 and 1 instead of -1 and +1. Default False.
        alpha: None, a positive number, ``"auto"`` or ``"auto_po2"``. Default None.
        training: False; Keras tells each call whether it trains.
        use_stochastic_rounding: draw in training. Default False.
        scale_axis: None; the layer knows where its output channels are.
        elements_per_scale: None.
        min_po2_exponent: bound of the exponent of ``"auto_po2"``. Default None.
        max_po2_exponent: as `min_po2_exponent`.
        seed: of the draws, an integer; None for another one in each process. Default None.

    Raises:
        ArgumentError: an argument is none of these.

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
        hold(
            self,
            training=training,
            scale_axis=scale_axis,
            elements_per_scale=elements_per_scale,
        )

    @property
    def traits(self) -> Traits:
        if not self.draws:
            return self.promised()
        # The threshold is that of a channel, whatever the scale.
        return self.promised(elementwise=False, scaled=True, channelwise=True)

    def parts(self, x: Any, noise: Any, channel_axis: Any) -> tuple[Any, Any]:
        if self.draws:
            # So that an axis that is not there is an error without draws too.
            axes_within_channels(len(x.shape), channel_axis)
        return super().parts(x, noise, channel_axis)

    def drawn(self, x: Any, noise: Any, channel_axis: Any) -> Any:
        most = ops.minimum(largest(x, channel_axis), 1)
        # In a channel of zeros both are drawn as often.
        reach = ops.where(ops.equal(most, 0), ops.ones_like(most), most) / 2
        return one_from(x, (noise - 0.5) * reach, self.other)

    def gradient(self, inputs: Any) -> Any:
        if self.alpha is not None:
            return ops.ones_like(inputs)
        return ops.cast(1 - ops.square(ops.tanh(wide(inputs))), inputs.dtype)

    def surrogate(self, x: Any, axis: Any = None) -> Any:
        if self.alpha is not None:
            return np.ones_like(x)
        return (1 - np.tanh(wide_array(x)) ** 2).astype(x.dtype)

    def share(self, x: Any, axis: Any) -> Any:
        axes = axes_of_array(x, axis)
        most = np.minimum(np.abs(x).max(axis=axes, keepdims=True), 1)
        return np.clip(0.5 + 2 * x / np.where(most == 0, 1, most), 0, 1)


class _Chances(_Signs):
    """Drawn in training, with a probability that grows with x."""

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
        return self.promised()

    def drawn(self, x: Any, noise: Any, channel_axis: Any) -> Any:
        if self.automatic:
            x = x / deviation(x, channel_axis)
        one = probability(self.temperature * x, self.use_real_sigmoid)
        return ops.cast(ops.where(ops.greater(one, noise), 1.0, self.other), x.dtype)

    def share(self, x: Any, axis: Any) -> Any:
        if self.automatic:
            axes = axes_of_array(x, axis)
            x = x / (x.std(axis=axes, keepdims=True) + EPSILON)
        return probability(self.temperature * x, self.use_real_sigmoid, np)


class StochasticBinary(_Chances):
    r"""The sign, drawn in training, times a scale.

    In training +s has the probability :math:`p = \sigma(t x / v)`, else it is -s; in
    inference:

    .. math:: q(x) = +s \text{ where } x \ge 0 \text{, else } -s

    .. math:: \frac{dq}{dx} = 1

    The scale s is that of `Binary`. The divisor v is the standard deviation of the output
    channel with an automatic alpha, else 1. Subnormal numbers count as 0; NaN stays NaN.

    Args:
        alpha: None, a positive number, ``"auto"`` or ``"auto_po2"``. Default None.
        temperature: t, a positive number: the larger, the fewer surprises. Default 6.0.
        use_real_sigmoid: else its hard form, :math:`\min(\max(x / 2 + 1/2, 0), 1)`.
            Default True.
        seed: of the draws, an integer; None for another one in each process. Default None.

    Raises:
        ArgumentError: an argument is none of these.

    Example:
        >>> import qframe as qf
        >>> q = qf.quantizers.StochasticBinary(seed=1)
        >>> [float(v) for v in q([-0.3, 0.0, 2.0])]
        [-1.0, 1.0, 1.0]
        >>> {float(v) for v in q([0.0] * 100, training=True)} == {-1.0, 1.0}
        True

    Paper: Courbariaux et al., 2016, https://arxiv.org/abs/1602.02830
    """


class Bernoulli(_Chances):
    r"""0 or a scale, drawn in training.

    In training s has the probability :math:`p = \sigma(t x / v)`, else it is 0; in
    inference:

    .. math:: q(x) = s \text{ where } x \ge 0 \text{, else } 0

    .. math:: \frac{dq}{dx} = 1

    The scale s is 1 without an alpha, or that number; automatic it is the one of each
    output channel for which q in inference is nearest to x, or the power of two nearest to
    that. The divisor v is the standard deviation of the channel then, else 1. Subnormal
    numbers count as 0; NaN stays NaN.

    Args:
        alpha: None, a positive number, ``"auto"`` or ``"auto_po2"``. Default None.
        temperature: t, a positive number: the larger, the fewer surprises. Default 6.0.
        use_real_sigmoid: else its hard form, :math:`\min(\max(x / 2 + 1/2, 0), 1)`.
            Default True.
        seed: of the draws, an integer; None for another one in each process. Default None.

    Raises:
        ArgumentError: an argument is none of these.

    Example:
        >>> import qframe as qf
        >>> q = qf.quantizers.Bernoulli(seed=1)
        >>> [float(v) for v in q([-0.3, 0.0, 2.0])]
        [0.0, 1.0, 1.0]

    Paper: Bengio et al., 2013, https://arxiv.org/abs/1308.3432
    """

    other = 0.0
