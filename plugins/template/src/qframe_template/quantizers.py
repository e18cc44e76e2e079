"""A quantizer: a formula for the value, one for the gradient, and what both promise."""

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

    A tie is rounded away from zero. The gradient is nowhere zero, so no weight stops
    learning; NaN stays NaN, with gradient zero.

    Args:
        steps: n, the steps from 0 to 1, an integer from 1 to 7: the values are the 2n + 1
            multiples of 1/n from -1 to 1. Default 3.

    Raises:
        ArgumentError: `steps` is not such an integer.

    Example:
        >>> import qframe as qf
        >>> q = qf.quantizers.get("stepped_tanh(steps=2)")
        >>> [float(v) for v in q([-3.0, -0.3, 0.1, 0.9])]
        [-1.0, -0.5, 0.0, 0.5]
    """

    def __init__(self, steps: int = 3, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        # A parameter is stored under its own name; the config and the repr read it there.
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
        """Where the magnitude of the value goes up a step: tanh is half a step below it."""
        return [math.atanh((k - 0.5) / self.steps) for k in range(1, self.steps + 1)]

    def value(self, inputs: Any) -> Any:
        # Comparisons, and not tanh: backends differ in its last bit, which decides ties.
        magnitude = ops.abs(inputs)
        passed = ops.zeros_like(inputs)
        for threshold in self.thresholds:
            passed = passed + ops.cast(magnitude >= threshold, inputs.dtype)
        height = passed / self.steps
        signed = ops.where(inputs < 0, -height, height)
        return ops.where(ops.isnan(inputs), inputs, signed)

    def gradient(self, inputs: Any) -> Any:
        # 1 - tanh(x)^2 = 4 e / (1 + e)^2 with e = exp(-2|x|): precise far out too.
        e = ops.exp(-2 * ops.abs(inputs))
        slope = 4 * e / ops.square(1 + e)
        return ops.where(ops.isnan(inputs), ops.zeros_like(inputs), slope)

    # References in NumPy, written apart from the above: the conformance kit compares.

    def reference(self, x: Any) -> Any:
        """The NumPy reference of `value`."""
        edges = np.asarray(self.thresholds, x.dtype)
        steps = np.searchsorted(edges, np.abs(x), side="right")
        return np.where(np.isnan(x), x, np.sign(x) * steps / self.steps).astype(x.dtype)

    def surrogate(self, x: Any) -> Any:
        """The NumPy reference of `gradient`, in float64."""
        wide = np.clip(x.astype(np.float64), -300, 300)
        return np.where(np.isnan(x), 0, np.cosh(wide) ** -2).astype(x.dtype)
