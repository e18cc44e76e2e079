"""Fixed-point quantization of a tanh and of a sigmoid."""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops

from qframe.errors import ArgumentError
from qframe.quantizers import Traits, clip_through
from qframe.quantizers.arithmetic import wide, wide_array
from qframe.validation import integer_within
from qframe_fixed.base import ScaledIntegerQuantizer, rounded
from qframe_fixed.options import flag


class _Squashed(ScaledIntegerQuantizer):
    """Base of the quantizers of a bounded activation function.

    A subclass defines `curve` and `slope` for Keras and, with ``xp=np``, for NumPy.
    """

    real: bool
    sign_bit: int

    def __init__(
        self, bits: int, symmetric: bool, draws: Any, seed: int | None, **kwargs: Any
    ) -> None:
        owner = type(self).__name__
        draws = flag(owner, "use_stochastic_rounding", draws)
        super().__init__(seed, draws, **kwargs)
        self.bits = self.precision = integer_within(owner, "bits", bits, 1, 24)
        self.symmetric = flag(owner, "symmetric", symmetric)
        self.use_stochastic_rounding = draws
        if self.symmetric and self.bits == 1:
            raise ArgumentError(
                f"{owner} of one bit has only one symmetric value. Write bits=2 or more."
            )

    @property
    def steps(self) -> int:
        """The number of steps from 0 to 1, m."""
        return int(2 ** (self.bits - self.sign_bit))

    @property
    def high(self) -> int:
        """The largest integer."""
        return self.steps - 1

    @property
    def low(self) -> int:
        """The smallest integer."""
        return self.symmetric - self.sign_bit * self.steps

    def curve_traits(self, **others: Any) -> Traits:
        return self.level_traits(
            range(self.low, self.high + 1),
            1 / self.steps,
            support=None if self.real else (-1.0, 1.0),
            expectation=self.expectation if self.draws else None,
            **others,
        )

    def curve(self, x: Any, xp: Any = ops) -> Any:
        """The activation function."""
        raise NotImplementedError

    def slope(self, x: Any, xp: Any = ops) -> Any:
        """The derivative of `curve`."""
        raise NotImplementedError

    def parts(self, x: Any, noise: Any, channel_axis: Any) -> tuple[Any, Any]:
        integers = rounded(self.curve(x) * self.steps, noise)
        return clip_through(integers, self.low, self.high), 1 / self.steps

    def gradient(self, inputs: Any) -> Any:
        x = wide(inputs)
        integers = ops.round(self.curve(x) * self.steps)
        inside = ops.logical_and(integers >= self.low, integers <= self.high)
        return ops.cast(self.slope(x) * ops.cast(inside, x.dtype), inputs.dtype)

    def reference_parts(self, x: Any, axis: Any) -> tuple[Any, Any]:
        integers = np.rint(self.curve(x, np) * self.steps)
        return np.clip(integers, self.low, self.high), 1 / self.steps

    def surrogate(self, x: Any, axis: Any = None) -> Any:
        y = wide_array(x)
        integers = np.rint(self.curve(y, np) * self.steps)
        inside = (integers >= self.low) & (integers <= self.high)
        return np.where(inside, self.slope(y, np), 0).astype(x.dtype)

    def expectation(self, x: Any) -> Any:
        """The mean over draws in training."""
        ends = self.low / self.steps, self.high / self.steps
        return np.clip(self.curve(x, np), *ends)


class QuantizedTanh(_Squashed):
    r"""tanh, or its hard form, rounded to fixed-point numbers.

    With :math:`m = 2^{b-1}` and :math:`p = \min(\max(x, -1), 1)`, or tanh x:

    .. math:: q(x) = \frac{1}{m} \min(\max(\lfloor m p \rceil, l), m - 1), \quad
        l = -m \text{ or } 1 - m \text{ (symmetric)}

    .. math:: \frac{dq}{dx} = \frac{dp}{dx} \text{ where }
        l \le \lfloor m p \rceil \le m - 1 \text{, else } 0

    In training ``use_stochastic_rounding`` draws one of both neighbours, so that the mean
    over draws is p. NaN stays NaN.

    Args:
        bits: b, an integer from 1 to 24; symmetric from 2. Default 8.
        use_stochastic_rounding: draw in training. Default False.
        symmetric: exclude the lowest integer. Default False.
        use_real_tanh: use tanh instead of its hard form. Default False.
        seed: of the draws, an integer; None differs in each process. Default None.

    Raises:
        ArgumentError: an argument has another value.

    Example:
        >>> import qframe as qf
        >>> q = qf.quantizers.get("quantized_tanh(3)")
        >>> [float(v) for v in q([-2.0, 0.3, 2.0])]
        [-1.0, 0.25, 0.75]

    Paper: Coelho et al., 2021, https://arxiv.org/abs/2006.10159
    """

    sign_bit = 1

    def __init__(
        self,
        bits: int = 8,
        use_stochastic_rounding: bool = False,
        symmetric: bool = False,
        use_real_tanh: bool = False,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(bits, symmetric, use_stochastic_rounding, seed, **kwargs)
        self.use_real_tanh = flag(type(self).__name__, "use_real_tanh", use_real_tanh)
        self.real = self.use_real_tanh

    @property
    def traits(self) -> Traits:
        return self.curve_traits(idempotent=not self.real, odd=self.symmetric)

    def curve(self, x: Any, xp: Any = ops) -> Any:
        if self.real:
            return xp.tanh(x)
        return clip_through(x, -1, 1) if xp is ops else np.clip(x, -1, 1)

    def slope(self, x: Any, xp: Any = ops) -> Any:
        if self.real:
            return 1 - xp.square(xp.tanh(x))
        return xp.where(xp.abs(x) <= 1, xp.ones_like(x), xp.zeros_like(x))


class QuantizedSigmoid(_Squashed):
    r"""The sigmoid, or its hard form, rounded to fixed-point numbers.

    With :math:`m = 2^b` and :math:`p = \min(\max(x / 2 + 1/2, 0), 1)`, or
    :math:`1 / (1 + e^{-x})`:

    .. math:: q(x) = \frac{1}{m} \min(\max(\lfloor m p \rceil, l), m - 1), \quad
        l = 0 \text{ or } 1 \text{ (symmetric)}

    .. math:: \frac{dq}{dx} = \frac{dp}{dx} \text{ where }
        l \le \lfloor m p \rceil \le m - 1 \text{, else } 0

    In training ``use_stochastic_rounding`` draws one of both neighbours, so that the mean
    over draws is p. NaN stays NaN.

    Args:
        bits: b, an integer from 1 to 24; symmetric from 2. Default 8.
        symmetric: exclude 0. Default False.
        use_real_sigmoid: use the sigmoid instead of its hard form. Default False.
        use_stochastic_rounding: draw in training. Default False.
        seed: of the draws, an integer; None differs in each process. Default None.

    Raises:
        ArgumentError: an argument has another value.

    Example:
        >>> import qframe as qf
        >>> q = qf.quantizers.get("quantized_sigmoid(3)")
        >>> [float(v) for v in q([-2.0, 0.3, 2.0])]
        [0.0, 0.625, 0.875]

    Paper: Coelho et al., 2021, https://arxiv.org/abs/2006.10159
    """

    sign_bit = 0

    def __init__(
        self,
        bits: int = 8,
        symmetric: bool = False,
        use_real_sigmoid: bool = False,
        use_stochastic_rounding: bool = False,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(bits, symmetric, use_stochastic_rounding, seed, **kwargs)
        self.use_real_sigmoid = flag(
            type(self).__name__, "use_real_sigmoid", use_real_sigmoid
        )
        self.real = self.use_real_sigmoid

    @property
    def traits(self) -> Traits:
        return self.curve_traits()

    def curve(self, x: Any, xp: Any = ops) -> Any:
        return probability(x, self.real, xp)

    def slope(self, x: Any, xp: Any = ops) -> Any:
        if self.real:
            p = self.curve(x, xp)
            return p * (1 - p)
        half = 0.5 * xp.ones_like(x)
        return xp.where(xp.abs(x) <= 1, half, xp.zeros_like(x))


def probability(x: Any, real: bool, xp: Any = ops) -> Any:
    """The sigmoid or its hard form, for NumPy with ``xp=np``."""
    if real:
        return ops.sigmoid(x) if xp is ops else 1 / (1 + np.exp(-x))
    y = 0.5 * x + 0.5
    return clip_through(y, 0, 1) if xp is ops else np.clip(y, 0, 1)
