"""Half-wave Gaussian quantization."""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops

from qframe.quantizers import Quantizer, Traits, clip_through
from qframe.quantizers.arithmetic import tiny, wide, wide_array
from qframe.validation import integer_within

# For each number of bits, the step with the smallest mean squared error on the positive
# half of a standard normal variable, with levels of 1 to 2^bits - 1 steps. The table was
# computed by bisection of the derivative of that error, with the integrals of the density
# over each interval from math.erf. The paper gives 0.538 for two bits.
STEPS = {
    1: 0.797884560803,
    2: 0.538811923400,
    3: 0.321728909068,
    4: 0.184243342763,
    5: 0.102984010306,
    6: 0.056584343983,
    7: 0.030691373889,
    8: 0.016481784106,
}


class HWGQ(Quantizer):
    r"""b bits above 0, with the best step for normally distributed numbers.

    .. math:: q(x) = d \min(\max(\lfloor x / d \rceil, 1), n) \text{ where } x > 0
        \text{, else } 0, \quad n = 2^b - 1

    .. math:: \frac{dq}{dx} = 1 \text{ where } 0 \le x \le n d \text{, else } 0

    The step d minimizes the mean squared error on the positive half of a standard normal
    variable: 0.539 for two bits. Place it after batch normalization with a scale near 1,
    instead of a ReLU: even a small positive number becomes d. Subnormal numbers count as 0;
    NaN stays NaN.

    Args:
        bits: b, an integer from 1 to 8. Default 2.

    Raises:
        ArgumentError: `bits` is not an integer from 1 to 8.

    Example:
        >>> import qframe as qf
        >>> q = qf.quantizers.HWGQ(bits=2)
        >>> [round(float(v), 3) for v in q([-1.0, 0.1, 1.0, 5.0])]
        [0.0, 0.539, 1.078, 1.616]

    Paper: Cai et al., 2017, https://arxiv.org/abs/1702.00953
    """

    def __init__(self, bits: int = 2, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.bits = integer_within("HWGQ", "bits", bits, 1, 8)
        self.precision = self.bits

    @property
    def step(self) -> float:
        """The step d."""
        return STEPS[self.bits]

    @property
    def high(self) -> int:
        """The largest integer of the grid, n."""
        return 2**self.bits - 1

    @property
    def traits(self) -> Traits:
        range_ = (0.0, self.high * self.step)
        return Traits(
            levels=tuple(k * self.step for k in range(self.high + 1)),
            range=range_,
            support=range_,
            elementwise=True,
            idempotent=True,
            monotone=True,
            reference=self.reference,
            surrogate=self.surrogate,
        )

    def value(self, inputs: Any) -> Any:
        x = wide(inputs)
        # Multiplied by the inverse, since compilers round a division differently.
        steps = clip_through(ops.round(x * (1 / self.step)), 1, self.high)
        above = ops.where(ops.less(x, tiny(x)), ops.zeros_like(x), steps * self.step)
        return ops.cast(above, inputs.dtype)

    def gradient(self, inputs: Any) -> Any:
        x = wide(inputs)
        low, high = ops.greater_equal(x, 0), ops.less_equal(x, self.high * self.step)
        return ops.cast(ops.logical_and(low, high), inputs.dtype)

    def reference(self, x: Any) -> Any:
        """The NumPy reference of `value`."""
        wide = wide_array(x)
        steps = np.clip(np.rint(wide * wide.dtype.type(1 / self.step)), 1, self.high)
        above = np.where(wide < np.finfo(wide.dtype).tiny, 0, steps * self.step)
        return above.astype(x.dtype)

    def surrogate(self, x: Any) -> Any:
        """The NumPy reference of `gradient`."""
        wide = wide_array(x)
        high = wide.dtype.type(self.high * self.step)
        return ((wide >= 0) & (wide <= high)).astype(x.dtype)
