"""Power-of-two quantization."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np
from keras import ops

from qframe.errors import ArgumentError
from qframe.quantizers import Traits, clip_through
from qframe.quantizers.arithmetic import wide, wide_array
from qframe.validation import finite_number, integer_within, one_of
from qframe_fixed.base import (
    StochasticQuantizer,
    leaky_slope,
    leaky_support,
    reference_leaky_slope,
    reference_sign,
    sign,
)
from qframe_fixed.options import flag, set_constants, slope_of
from qframe_fixed.powers import LEAST, MOST, reference_powers, to_powers

# Including those of subnormal numbers, which no device flushes to zero in float16.
_FLOAT16_EXPONENTS = range(-24, 16)


class _PowersOfTwo(StochasticQuantizer):
    """Base of the power-of-two quantizers: the exponents, and rounding to them."""

    # The bits that do not encode the exponent.
    sign_bits: ClassVar[int]
    negative_slope: float = 1.0

    def __init__(
        self,
        bits: int = 8,
        max_value: float | None = None,
        use_stochastic_rounding: bool = False,
        quadratic_approximation: bool = False,
        log2_rounding: str = "rnd",
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
        self.bits = integer_within(owner, "bits", bits, 1 + self.sign_bits, 8)
        self.precision = self.bits
        if max_value is not None:
            max_value = finite_number(owner, "max_value", max_value)
        self.max_value = max_value
        self.use_stochastic_rounding = draws
        self.quadratic_approximation = flag(
            owner, "quadratic_approximation", quadratic_approximation
        )
        self.log2_rounding = one_of(owner, "log2_rounding", log2_rounding, ("rnd", "floor"))
        if draws and self.log2_rounding == "floor":
            raise ArgumentError(
                f"use_stochastic_rounding of {owner} draws between both neighbours, and "
                "log2_rounding='floor' takes the lower one. Leave one of them out."
            )
        if not self.exponents:
            raise ArgumentError(
                f"max_value of {owner} is below the smallest power of two of {bits} bits, "
                f"found {max_value!r}. Write a larger one, or more bits."
            )
        set_constants(
            self,
            qnoise_factor=qnoise_factor,
            var_name=var_name,
            use_ste=use_ste,
            use_variables=use_variables,
        )

    @property
    def exponents(self) -> range:
        """The exponents of all levels, ascending."""
        stride = 2 if self.quadratic_approximation else 1
        bits = self.bits - self.sign_bits
        below_one = self.max_value is not None and self.max_value <= 1
        # Exponents of both signs need a bit for the sign.
        half = 2 ** (bits if below_one else bits - 1)
        top = stride * (half - 1) if stride == 1 else 2 * (2 * ((half - 1) // 2))
        if self.max_value is not None:
            limit = math.frexp(self.max_value)[1] - 1
            top = min(top, limit - limit % stride)
        top = min(top, MOST - MOST % stride)
        # The bits encode at most 2^bits exponents.
        bottom = max(-stride * half, top - stride * (2**bits - 1), LEAST)
        return range(bottom, top + 1, stride)

    def of_dtype(self, dtype: Any) -> range:
        """The exponents that a dtype can represent."""
        if "float16" not in str(dtype) or "bfloat16" in str(dtype):
            return self.exponents
        low, high, stride = self.exponents[0], self.exponents[-1], self.exponents.step
        half = _FLOAT16_EXPONENTS
        exponents = range(max(low, half[0]), min(high, half[-1]) + 1, stride)
        return exponents or range(low, low + 1)

    def to_powers(self, magnitude: Any, noise: Any, dtype: Any) -> Any:
        """Round each magnitude to a power of two; NaN stays NaN."""
        powers = to_powers(
            ops.cast(magnitude, "float32"),
            self.of_dtype(dtype),
            floor=self.log2_rounding == "floor",
            noise=noise,
        )
        return ops.where(ops.isnan(magnitude), magnitude, ops.cast(powers, magnitude.dtype))

    def reference_powers(self, magnitude: Any) -> Any:
        """The NumPy reference of `to_powers`."""
        floor = self.log2_rounding == "floor"
        powers = reference_powers(magnitude, self.exponents, floor=floor)
        return np.where(np.isnan(magnitude), magnitude, powers)

    def affine(self, inputs: Any) -> tuple[Any, int] | None:
        low, high = self.exponents[0], self.exponents[-1]
        # The levels are integers of the smallest one, if these fit into 64 bits.
        return (2.0**low, 0) if high - low <= 62 else None

    def power_traits(self, signed: bool, **others: Any) -> Traits:
        powers = [2.0**exponent for exponent in self.exponents]
        levels = [*(-power for power in powers[::-1] if signed), *powers]
        return Traits(
            levels=tuple(levels),
            range=(levels[0], levels[-1]) if len(levels) > 1 else None,
            elementwise=True,
            monotone=True,
            stochastic=self.draws,
            reference=self.reference,
            surrogate=self.surrogate,
            expectation=self.expectation if self.draws else None,
            **others,
        )

    def reference(self, x: Any) -> Any:
        """The NumPy reference of `value`."""
        raise NotImplementedError

    def expectation(self, x: Any) -> Any:
        """The mean over draws in training."""
        leaky = np.where(x < 0, -x * self.negative_slope, x)
        mean = np.clip(leaky, 2.0 ** self.exponents[0], 2.0 ** self.exponents[-1])
        return np.where((x < 0) & (self.negative_slope > 0), -mean, mean)


class QuantizedPo2(_PowersOfTwo):
    r"""Plus or minus a power of two.

    .. math:: q(x) = \pm 2^{\min(\max(e, l), h)}, \quad
        e = \lfloor \log_2 |x| \rceil \text{ or } \lfloor \log_2 |x| \rfloor

    .. math:: \frac{dq}{dx} = 1

    One bit is the sign; with :math:`n = 2^{b-2}` the exponents range from
    :math:`l = -n` to :math:`h = n - 1`. With ``max_value`` h is its exponent, rounded
    down; a ``max_value`` up to 1 needs no sign of the exponent: :math:`n = 2^{b-1}`. Zero
    becomes :math:`2^l`. With ``quadratic_approximation`` the exponents are even, and range
    twice as far. Ties between two exponents take the larger one. In training
    ``use_stochastic_rounding`` draws the next power below or above, so that the mean over
    draws is x. The exponents are limited to those of normal float32 numbers and of the
    dtype. NaN stays NaN.

    Args:
        bits: b, an integer from 2 to 8. Default 8.
        max_value: the bound of the magnitudes, a positive number; None for no bound.
            Default None.
        use_stochastic_rounding: draw in training. Default False.
        quadratic_approximation: use even exponents only. Default False.
        log2_rounding: ``"rnd"`` or ``"floor"``. Default ``"rnd"``.
        qnoise_factor: 1.0.
        var_name: None.
        use_ste: True.
        use_variables: False.
        seed: of the draws, an integer; None differs in each process. Default None.

    Raises:
        ArgumentError: an argument has another value; or draws are combined with
            ``log2_rounding="floor"``.

    Example:
        >>> import qframe as qf
        >>> q = qf.quantizers.get("quantized_po2(4)")
        >>> [float(v) for v in q([-3.0, 0.3, 0.0, 100.0])]
        [-4.0, 0.25, 0.0625, 8.0]

    Paper: Coelho et al., 2021, https://arxiv.org/abs/2006.10159
    """

    sign_bits = 1

    @property
    def traits(self) -> Traits:
        return self.power_traits(True, idempotent=True, odd=True)

    def value(self, inputs: Any, noise: Any = None) -> Any:
        x = wide(inputs)
        powers = self.to_powers(ops.abs(x), noise, inputs.dtype)
        return ops.cast(sign(x) * powers, inputs.dtype)

    def reference(self, x: Any) -> Any:
        y = wide_array(x)
        return (reference_sign(y) * self.reference_powers(np.abs(y))).astype(x.dtype)


class QuantizedReluPo2(_PowersOfTwo):
    r"""A power of two after a ReLU.

    .. math:: q(x) = 2^{\min(\max(e, l), h)} \text{ where } x \ge 0 \text{ or } a = 0,
        \text{ else } -2^{\min(\max(e, l), h)}

    .. math:: e = \lfloor \log_2 r \rceil \text{ or } \lfloor \log_2 r \rfloor, \quad
        r = x \text{ where } x \ge 0 \text{, else } -a x

    .. math:: \frac{dq}{dx} = 1 \text{ where } 0 < x \le t, \quad
        a \text{ where } x \le 0, \quad \text{else } 0

    With :math:`n = 2^{b-1}` the exponents range from :math:`l = -n` to :math:`h = n - 1`.
    With ``max_value``, t, h is its exponent, rounded down; a ``max_value`` up to 1 needs no
    sign of the exponent: :math:`n = 2^b`. Zero is not a level: without a slope negative
    numbers become :math:`2^l`. The rest is as in `QuantizedPo2`. A slope needs an
    additional bit for the sign of the values, which `precision` includes.

    Args:
        bits: b, an integer from 1 to 8. Default 8.
        max_value: t, a positive number; None for no bound. Default None.
        negative_slope: a, 0 or a power of two up to 1. Default 0.
        use_stochastic_rounding: draw in training. Default False.
        quadratic_approximation: use even exponents only. Default False.
        log2_rounding: ``"rnd"`` or ``"floor"``. Default ``"rnd"``.
        qnoise_factor: 1.0.
        var_name: None.
        use_ste: True.
        use_variables: False.
        seed: of the draws, an integer; None differs in each process. Default None.

    Raises:
        ArgumentError: an argument has another value; or draws are combined with
            ``log2_rounding="floor"``.

    Example:
        >>> import qframe as qf
        >>> q = qf.quantizers.get("quantized_relu_po2(3)")
        >>> [float(v) for v in q([-3.0, 0.3, 0.0, 100.0])]
        [0.0625, 0.25, 0.0625, 8.0]

    Paper: Coelho et al., 2021, https://arxiv.org/abs/2006.10159
    """

    sign_bits = 0

    def __init__(
        self,
        bits: int = 8,
        max_value: float | None = None,
        negative_slope: float = 0,
        use_stochastic_rounding: bool = False,
        quadratic_approximation: bool = False,
        log2_rounding: str = "rnd",
        qnoise_factor: float = 1.0,
        var_name: None = None,
        use_ste: bool = True,
        use_variables: bool = False,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            bits,
            max_value,
            use_stochastic_rounding,
            quadratic_approximation,
            log2_rounding,
            qnoise_factor,
            var_name,
            use_ste,
            use_variables,
            seed,
            **kwargs,
        )
        self.negative_slope = slope_of(type(self).__name__, negative_slope)
        self.precision = self.bits + (self.negative_slope > 0)

    @property
    def traits(self) -> Traits:
        slope = self.negative_slope
        return self.power_traits(
            slope > 0,
            idempotent=slope in (0, 1),
            support=leaky_support(slope, self.max_value),
        )

    def value(self, inputs: Any, noise: Any = None) -> Any:
        x = wide(inputs)
        if not self.negative_slope:
            powers = self.to_powers(clip_through(x, 0, np.inf), noise, inputs.dtype)
            return ops.cast(powers, inputs.dtype)
        leaky = ops.where(ops.less(x, 0), -x * self.negative_slope, x)
        powers = self.to_powers(leaky, noise, inputs.dtype)
        return ops.cast(sign(x) * powers, inputs.dtype)

    def gradient(self, inputs: Any) -> Any:
        slope = leaky_slope(wide(inputs), self.negative_slope, self.max_value)
        return ops.cast(slope, inputs.dtype)

    def reference(self, x: Any) -> Any:
        y, slope = wide_array(x), self.negative_slope
        if not slope:
            return self.reference_powers(np.maximum(y, 0)).astype(x.dtype)
        powers = self.reference_powers(np.where(y < 0, -y * slope, y))
        return (reference_sign(y) * powers).astype(x.dtype)

    def surrogate(self, x: Any, axis: Any = None) -> Any:
        slope = reference_leaky_slope(wide_array(x), self.negative_slope, self.max_value)
        return slope.astype(x.dtype)
