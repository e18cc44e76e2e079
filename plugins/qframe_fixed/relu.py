"""Fixed-point quantization after a ReLU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

from qframe.errors import ArgumentError
from qframe.quantizers import Traits, clip_through
from qframe.quantizers.arithmetic import wide, wide_array
from qframe.validation import finite_number, integer_within
from qframe_fixed.base import (
    ScaledIntegerQuantizer,
    leaky_slope,
    leaky_support,
    reference_leaky_slope,
    rounded,
)
from qframe_fixed.options import flag, set_constants, slope_of


class QuantizedRelu(ScaledIntegerQuantizer):
    r"""A ReLU rounded to fixed-point numbers.

    With the negative slope a, :math:`m = 2^b` (:math:`2^{b-1}` where a is not 0), and the
    step :math:`d = 2^i / m`:

    .. math:: q(x) = d \min(\max(\lfloor r / d \rceil, -a m), m - 1), \quad
        r = x \text{ where } x \ge 0 \text{, else } a x

    .. math:: \frac{dq}{dx} = 1 \text{ where } 0 < x \le t, \quad
        a \text{ where } x \le 0, \quad \text{else } 0

    The bound t is the largest value :math:`(m - 1) d`. Without ``is_quantized_clip`` it is
    `relu_upper_bound`, which bounds the values too, or infinity. ``use_sigmoid`` uses
    every other level: :math:`d (2 \lfloor m \sigma \rceil - m)` with the hard sigmoid
    :math:`\sigma = \min(\max(x / 2^{i+1} + 1/2, 0), 1)`, with the same bounds. In training
    ``use_stochastic_rounding`` draws one of both neighbours, so that the mean over draws
    is r. NaN stays NaN.

    Args:
        bits: b, an integer from 1 to 24. Default 8.
        integer: i, the bits left of the binary point, an integer from -32 to 32.
            Default 0.
        use_sigmoid: use every other level. Default 0.
        negative_slope: a, 0 or a power of two from :math:`1 / m` to 1. Default 0.0.
        use_stochastic_rounding: draw in training. Default False.
        relu_upper_bound: None, or a multiple of d, with ``is_quantized_clip=False``.
            Default None.
        is_quantized_clip: stop the gradient above the largest value. Default True.
        qnoise_factor: 1.0.
        var_name: None.
        use_ste: True.
        use_variables: False.
        seed: of the draws, an integer; None differs in each process. Default None.

    Raises:
        ArgumentError: an argument has another value; or ``use_sigmoid`` is combined with
            a slope or with draws.

    Example:
        >>> import qframe as qf
        >>> q = qf.quantizers.get("quantized_relu(3)")
        >>> [float(v) for v in q([-1.0, 0.3, 2.0])]
        [0.0, 0.25, 0.875]

    Paper: Coelho et al., 2021, https://arxiv.org/abs/2006.10159
    """

    def __init__(
        self,
        bits: int = 8,
        integer: int = 0,
        use_sigmoid: bool = False,
        negative_slope: float = 0.0,
        use_stochastic_rounding: bool = False,
        relu_upper_bound: float | None = None,
        is_quantized_clip: bool = True,
        qnoise_factor: float = 1.0,
        var_name: None = None,
        use_ste: bool = True,
        use_variables: bool = False,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        owner = type(self).__name__
        draws = flag(owner, "use_stochastic_rounding", use_stochastic_rounding)
        super().__init__(seed, draws, **kwargs)
        self.bits = self.precision = integer_within(owner, "bits", bits, 1, 24)
        self.integer = integer_within(owner, "integer", integer, -32, 32)
        self.use_sigmoid = flag(owner, "use_sigmoid", use_sigmoid)
        self.negative_slope = slope_of(owner, negative_slope)
        self.use_stochastic_rounding = draws
        self.is_quantized_clip = flag(owner, "is_quantized_clip", is_quantized_clip)
        if relu_upper_bound is not None:
            relu_upper_bound = self._bound(relu_upper_bound)
        self.relu_upper_bound = relu_upper_bound
        set_constants(
            self,
            qnoise_factor=qnoise_factor,
            var_name=var_name,
            use_ste=use_ste,
            use_variables=use_variables,
        )
        if self.negative_slope and self.negative_slope * self.half < 1:
            raise ArgumentError(
                f"negative_slope of {owner} must be {1 / self.half} or more for {bits} "
                f"bits, found {negative_slope!r}: all negative numbers would be smaller "
                "than a step."
            )
        if self.use_sigmoid and (draws or self.negative_slope):
            raise ArgumentError(
                f"use_sigmoid of {owner} works neither with negative_slope nor with "
                "use_stochastic_rounding. Leave them out."
            )

    def _bound(self, bound: Any) -> float:
        bound = finite_number(type(self).__name__, "relu_upper_bound", bound)
        if self.is_quantized_clip:
            raise ArgumentError(
                f"relu_upper_bound={bound} of QuantizedRelu has no effect with "
                "is_quantized_clip=True. Write is_quantized_clip=False, or leave it out."
            )
        if bound % self.step:
            raise ArgumentError(
                f"relu_upper_bound of QuantizedRelu must be a multiple of the step "
                f"{self.step}, found {bound}."
            )
        return bound

    @property
    def half(self) -> int:
        """The number m of steps from 0 to 2^i."""
        return int(2 ** (self.bits - (self.negative_slope != 0)))

    @property
    def step(self) -> float:
        """The step d."""
        return 2.0**self.integer / self.half

    @property
    def high(self) -> int:
        """The largest integer."""
        if self.relu_upper_bound is None:
            return self.half - 1
        return min(self.half - 1, int(self.relu_upper_bound / self.step))

    @property
    def low(self) -> int:
        """The smallest integer."""
        return -int(self.negative_slope * self.half)

    @property
    def top(self) -> float | None:
        """The bound t; None if it is infinite."""
        return self.high * self.step if self.is_quantized_clip else self.relu_upper_bound

    @property
    def traits(self) -> Traits:
        integers: Sequence[int] = range(self.low, self.high + 1)
        if self.use_sigmoid:
            integers = sorted({*integers[::2], self.high})
        slope = self.negative_slope
        return self.level_traits(
            integers,
            self.step,
            idempotent=slope in (0, 1),
            support=leaky_support(slope, self.top),
            expectation=self.expectation if self.draws else None,
        )

    def parts(self, x: Any, noise: Any, channel_axis: Any) -> tuple[Any, Any]:
        if self.use_sigmoid:
            sigmoid = clip_through(x * (0.5 / 2.0**self.integer) + 0.5, 0, 1)
            integers = 2 * ops.round(sigmoid * self.half) - self.half
        else:
            leaky = ops.where(ops.less(x, 0), x * self.negative_slope, x)
            # Infinity times a slope of 0 would be NaN.
            leaky = leaky if self.negative_slope else clip_through(x, 0, np.inf)
            integers = rounded(leaky / self.step, noise)
        return clip_through(integers, self.low, self.high), self.step

    def gradient(self, inputs: Any) -> Any:
        slope = leaky_slope(wide(inputs), self.negative_slope, self.top)
        return ops.cast(slope, inputs.dtype)

    def reference_parts(self, x: Any, axis: Any) -> tuple[Any, Any]:
        if self.use_sigmoid:
            sigmoid = np.clip(x / 2.0**self.integer / 2 + 0.5, 0, 1)
            integers = 2 * np.rint(sigmoid * self.half) - self.half
        else:
            slope = self.negative_slope
            leaky = np.where(x < 0, x * slope, x) if slope else np.maximum(x, 0)
            integers = np.rint(leaky / self.step)
        return np.clip(integers, self.low, self.high), self.step

    def surrogate(self, x: Any, axis: Any = None) -> Any:
        slope = reference_leaky_slope(wide_array(x), self.negative_slope, self.top)
        return slope.astype(x.dtype)

    def expectation(self, x: Any) -> Any:
        """The mean over draws in training."""
        leaky = np.where(x < 0, x * self.negative_slope, x)
        return np.clip(leaky, self.low * self.step, self.high * self.step)
