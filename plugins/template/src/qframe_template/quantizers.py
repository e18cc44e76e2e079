"""A quantizer: the value, the surrogate gradient, and the traits of both."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from keras import ops

from qframe.quantizers import Quantizer, Traits
from qframe.validation import integer_within


class SteppedTanh(Quantizer):
    r"""The hyperbolic tangent, rounded to equal steps.

    .. math:: q(x) = \frac{1}{n} \left\lfloor n \tanh(x) \right\rceil

    .. math:: \frac{dq}{dx} = 1 - \tanh^2(x)

    Ties round away from zero. The gradient is positive everywhere, so every weight keeps
    learning. NaN stays NaN, with gradient zero.

    Args:
        steps: n, the steps from 0 to 1, an integer from 1 to 7. The values are the 2n + 1
            multiples of 1/n from -1 to 1. Default 3.

    Raises:
        ArgumentError: `steps` is not an integer from 1 to 7.

    Example:
        >>> import qframe as qf
        >>> q = qf.quantizers.get("stepped_tanh(steps=2)")
        >>> [float(v) for v in q([-3.0, -0.3, 0.1, 0.9])]
        [-1.0, -0.5, 0.0, 0.5]
    """

    def __init__(self, steps: int = 3, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        # The config and the repr read each parameter from the attribute of its name.
        self.steps = integer_within("SteppedTanh", "steps", steps, 1, 7)
        self.precision = math.ceil(math.log2(2 * self.steps + 1))

    @property
    def traits(self) -> Traits:
        n = self.steps
        return Traits(
            levels=tuple(k / n for k in range(-n, n + 1)),
            range=(-1.0, 1.0),
            elementwise=True,
            idempotent=n <= 2,
            monotone=True,
            odd=True,
            reference=self.reference,
            surrogate=self.surrogate,
        )

    @property
    def thresholds(self) -> list[float]:
        """The magnitudes where tanh is half a step below the next value."""
        return [math.atanh((k - 0.5) / self.steps) for k in range(1, self.steps + 1)]

    def value(self, inputs: Any) -> Any:
        # Comparisons, since the last bit of tanh decides ties and differs by backend.
        magnitude = ops.abs(inputs)
        steps = ops.zeros_like(inputs)
        for threshold in self.thresholds:
            steps = steps + ops.cast(magnitude >= threshold, inputs.dtype)
        height = steps / self.steps
        signed = ops.where(inputs < 0, -height, height)
        return ops.where(ops.isnan(inputs), inputs, signed)

    def gradient(self, inputs: Any) -> Any:
        # 1 - tanh(x)^2 = 4 e / (1 + e)^2 with e = exp(-2|x|), precise for large |x| too.
        e = ops.exp(-2 * ops.abs(inputs))
        slope = 4 * e / ops.square(1 + e)
        return ops.where(ops.isnan(inputs), ops.zeros_like(inputs), slope)

    # Independent references in NumPy, with which the conformance kit compares.

    def reference(self, x: Any) -> Any:
        """The NumPy reference of `value`."""
        edges = np.asarray(self.thresholds, x.dtype)
        steps = np.searchsorted(edges, np.abs(x), side="right")
        return np.where(np.isnan(x), x, np.sign(x) * steps / self.steps).astype(x.dtype)

    def surrogate(self, x: Any) -> Any:
        """The NumPy reference of `gradient`, in float64."""
        wide = np.clip(x.astype(np.float64), -300, 300)
        return np.where(np.isnan(x), 0, np.cosh(wide) ** -2).astype(x.dtype)
