"""Ternary quantizers of QKeras, deterministic and stochastic."""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops

from qframe.errors import ArgumentError
from qframe.quantizers import Traits
from qframe.quantizers.arithmetic import axes_of_array, tiny
from qframe.validation import finite_number, integer_within
from qframe_fixed.base import ScaledIntegerQuantizer, TanhGradient
from qframe_fixed.options import Alpha, alpha_of, flag
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

_THRESHOLD = 0.33


class _Ternary(ScaledIntegerQuantizer):
    """Base of the ternary quantizers: a constant or computed threshold and scale."""

    precision = 2

    def __init__(
        self,
        alpha: Alpha,
        threshold: float | None,
        number_of_unrolls: int,
        draws: bool,
        seed: int | None,
        **kwargs: Any,
    ) -> None:
        owner = type(self).__name__
        super().__init__(seed, draws, **kwargs)
        self.alpha = alpha_of(owner, alpha)
        if threshold is not None and threshold != 0:
            threshold = finite_number(owner, "threshold", threshold)
        self.threshold = None if threshold is None else float(threshold)
        self.number_of_unrolls = integer_within(
            owner, "number_of_unrolls", number_of_unrolls, 1, 100
        )
        if self.automatic and threshold is not None:
            raise ArgumentError(
                f"threshold of {owner} follows from the tensor with alpha={alpha!r}, found "
                f"{threshold!r}. Leave it out, or give alpha a number."
            )

    @property
    def constant_threshold(self) -> float:
        """The threshold without an automatic alpha."""
        return _THRESHOLD if self.threshold is None else self.threshold

    @property
    def traits(self) -> Traits:
        return self.level_traits(
            (-1, 0, 1),
            1.0,
            # A threshold beyond a level maps the level to 0.
            idempotent=not self.automatic and self.constant_threshold <= self.factor,
            odd=True,
            expectation=self.expectation if self.draws else None,
        )

    def parts(self, x: Any, noise: Any, channel_axis: Any) -> tuple[Any, Any]:
        threshold: Any = max(self.constant_threshold, tiny(x))
        scale: Any = self.factor
        if self.automatic:
            threshold, scale = self.fit(x, channel_axis)
        if noise is not None:
            noise = ops.cast(noise, x.dtype)
            return self.random_signs(x, noise, threshold, scale, channel_axis), scale
        # QKeras counts a magnitude equal to a constant threshold as beyond it.
        beyond = ops.greater if self.automatic else ops.greater_equal
        return self.signs(x, beyond(ops.abs(x), threshold)), scale

    def signs(self, x: Any, beyond: Any) -> Any:
        """-1, 0 or +1; NaN stays NaN."""
        zero = ops.where(ops.isnan(x), x, ops.zeros_like(x))
        return ops.where(beyond, ops.sign(x), zero)

    def random_signs(
        self, x: Any, noise: Any, threshold: Any, scale: Any, channel_axis: Any
    ) -> Any:
        """-1, 0 or +1, drawn by the noise."""
        raise NotImplementedError

    def fit(self, x: Any, channel_axis: Any) -> tuple[Any, Any]:
        """The threshold and the scale of each channel, computed alternately."""
        scale = largest(x, channel_axis) * (2 / 3)
        if self.alpha == "auto_po2":
            scale = nearest_power(scale)
        for _ in range(self.number_of_unrolls):
            threshold = scale / 2
            signs = self.signs(x, ops.greater(ops.abs(x), threshold))
            scale = least_squares(x, signs, channel_axis)
            if self.alpha == "auto_po2":
                scale = nearest_power(scale)
        return threshold, scale

    def expectation(self, x: Any, axis: Any = None) -> Any:
        """The mean over draws in training."""
        raise NotImplementedError

    def reference_parts(self, x: Any, axis: Any) -> tuple[Any, Any]:
        if not self.automatic:
            beyond = np.abs(x) >= max(self.constant_threshold, np.finfo(x.dtype).tiny)
            return np.where(np.isnan(x), x, np.sign(x) * beyond), self.factor
        threshold, scale = self.reference_fit(x, axis)
        return np.sign(x) * (np.abs(x) > threshold), scale

    def reference_fit(self, x: Any, axis: Any) -> tuple[Any, Any]:
        """The NumPy reference of `fit`."""
        axes = axes_of_array(x, axis)
        power = reference_power if self.alpha == "auto_po2" else np.asarray
        scale = power(np.abs(x).max(axis=axes, keepdims=True) * x.dtype.type(2 / 3))
        for _ in range(self.number_of_unrolls):
            threshold = scale / 2
            signs = np.sign(x) * (np.abs(x) > threshold)
            scale = power(reference_least_squares(x, signs, axes))
        return threshold, scale


class Ternary(TanhGradient, _Ternary):
    r"""-1, 0 or +1, times a scale.

    .. math:: q(x) = s \, \mathrm{sign}(x) \text{ where } |x| \ge t \text{, else } 0

    .. math:: \frac{dq}{dx} = 1 - \tanh^2 x \text{ where } \alpha \text{ is None, else } 1

    The scale s is 1 without an alpha, or the number given as alpha. With ``"auto"`` each
    output channel has a scale that starts at two thirds of its largest magnitude. Then
    alternately the threshold becomes half the scale, and the scale minimizes the squared
    error. ``"auto_po2"`` takes the power of two nearest to each of these scales. A
    magnitude that equals a computed threshold becomes 0. With an automatic alpha,
    ``use_stochastic_rounding`` draws the threshold in training, from two thirds to four
    thirds of itself. Subnormal numbers become 0; NaN stays NaN.

    Args:
        alpha: None, a positive number, ``"auto"`` or ``"auto_po2"``. Default None.
        threshold: t, a positive number or 0, compared in float32; None for 0.33, or with
            an automatic alpha. Default None.
        use_stochastic_rounding: draw in training, with an automatic alpha. Default False.
        number_of_unrolls: the iterations that compute threshold and scale, an integer
            from 1 to 100. Default 5.
        seed: of the draws, an integer; None differs in each process. Default None.

    Raises:
        ArgumentError: an argument has another value, or one that contradicts `alpha`.

    Example:
        >>> import qframe as qf
        >>> q = qf.quantizers.get("fixed:ternary")
        >>> [float(v) for v in q([-0.5, 0.3, 2.0])]
        [-1.0, 0.0, 1.0]

    Paper: Li et al., 2016, https://arxiv.org/abs/1605.04711
    """

    def __init__(
        self,
        alpha: Alpha = None,
        threshold: float | None = None,
        use_stochastic_rounding: bool = False,
        number_of_unrolls: int = 5,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        owner = type(self).__name__
        draws = flag(owner, "use_stochastic_rounding", use_stochastic_rounding)
        super().__init__(alpha, threshold, number_of_unrolls, draws, seed, **kwargs)
        self.use_stochastic_rounding = draws
        if draws and not self.automatic:
            raise ArgumentError(
                f"use_stochastic_rounding of {owner} needs alpha='auto' or 'auto_po2', "
                f"found alpha={alpha!r}. Write stochastic_ternary to draw with a constant "
                "threshold."
            )

    def random_signs(
        self, x: Any, noise: Any, threshold: Any, scale: Any, channel_axis: Any
    ) -> Any:
        random = threshold * (1 + noise) * (2 / 3)
        return self.signs(x, ops.greater(ops.abs(x), random))

    def expectation(self, x: Any, axis: Any = None) -> Any:
        threshold, scale = self.reference_fit(x, axis)
        # The probability that the random threshold is at most |x|.
        p = 1.5 * np.abs(x) / np.where(threshold > 0, threshold, 1) - 1
        return np.sign(x) * np.clip(p, 0, 1) * scale


class StochasticTernary(_Ternary):
    r"""-1, 0 or +1, drawn in training, times a scale.

    In training it is the mean of two signs, +1 with the probabilities
    :math:`\sigma(a (x - t) / v)` and :math:`\sigma(a (x + t) / v)`, times s; in inference:

    .. math:: q(x) = s \, \mathrm{sign}(x) \text{ where } |x| \ge t \text{, else } 0

    .. math:: \frac{dq}{dx} = 1

    The scale s and the threshold t are those of `Ternary`. The divisor v is the standard
    deviation of the output channel with an automatic alpha, where t is half the scale in
    training; else 1. Subnormal numbers become 0; NaN stays NaN.

    Args:
        alpha: None, a positive number, ``"auto"`` or ``"auto_po2"``. Default None.
        threshold: t, a positive number or 0, compared in float32; None for 0.33, or with
            an automatic alpha. Default None.
        temperature: a, a positive number; larger values draw less noise. Default 8.0.
        use_real_sigmoid: use the sigmoid instead of its hard form,
            :math:`\min(\max(x / 2 + 1/2, 0), 1)`. Default True.
        number_of_unrolls: the iterations that compute threshold and scale, an integer
            from 1 to 100. Default 5.
        seed: of the draws, an integer; None differs in each process. Default None.

    Raises:
        ArgumentError: an argument has another value, or one that contradicts `alpha`.

    Example:
        >>> import qframe as qf
        >>> q = qf.quantizers.StochasticTernary(seed=1)
        >>> [float(v) for v in q([-0.5, 0.3, 2.0])]
        [-1.0, 0.0, 1.0]

    Paper: Coelho et al., 2021, https://arxiv.org/abs/2006.10159
    """

    def __init__(
        self,
        alpha: Alpha = None,
        threshold: float | None = None,
        temperature: float = 8.0,
        use_real_sigmoid: bool = True,
        number_of_unrolls: int = 5,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        owner = type(self).__name__
        super().__init__(alpha, threshold, number_of_unrolls, True, seed, **kwargs)
        self.temperature = finite_number(owner, "temperature", temperature)
        self.use_real_sigmoid = flag(owner, "use_real_sigmoid", use_real_sigmoid)

    def random_signs(
        self, x: Any, noise: Any, threshold: Any, scale: Any, channel_axis: Any
    ) -> Any:
        spread: Any = 1.0
        if self.automatic:
            threshold, spread = scale / 2, deviation(x, channel_axis)
        first, second = self.probabilities(x, threshold, spread, ops)
        up = ops.cast(ops.less(noise, first * second), x.dtype)
        down = ops.cast(ops.less_equal(1 - noise, (1 - first) * (1 - second)), x.dtype)
        return ops.where(ops.isnan(x), x, up - down)

    def probabilities(
        self, x: Any, threshold: Any, spread: Any, xp: Any
    ) -> tuple[Any, Any]:
        """The probabilities that each of both signs is +1."""
        steepness = self.temperature / spread
        first, second = (x - threshold) * steepness, (x + threshold) * steepness
        real = self.use_real_sigmoid
        return probability(first, real, xp), probability(second, real, xp)

    def expectation(self, x: Any, axis: Any = None) -> Any:
        scale = self.reference_parts(x, axis)[1]
        threshold, spread = self.constant_threshold, 1.0
        if self.automatic:
            axes = axes_of_array(x, axis)
            threshold = scale / 2
            spread = x.std(axis=axes, keepdims=True) + EPSILON
        first, second = self.probabilities(x, threshold, spread, np)
        return (first + second - 1) * scale
