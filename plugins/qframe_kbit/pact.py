"""Activations with a learned clipping bound."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from qframe.errors import ArgumentError
from qframe.quantizers import Quantizer, Traits, clip_through
from qframe.quantizers.arithmetic import as_array, positive, wide, wide_array, with_gradient
from qframe.quantizers.ranges import checked_ends
from qframe.validation import finite_number, integer_within, number_from_zero


class PACT(Quantizer):
    r"""b bits between 0 and a bound that learns.

    .. math:: q(x) = s \left\lfloor \frac{\min(\max(x, 0), \alpha)}{s} \right\rceil,
        \quad s = \frac{\alpha}{2^b - 1}

    .. math:: \frac{dq}{dx} = 1 \text{ where } 0 \le x \le \alpha \text{, else } 0, \quad
        \frac{dq}{d\alpha} = 1 \text{ where } x > \alpha \text{, else } 0

    No gradient of the rounding reaches α, which learns only from the numbers beyond it and
    from its decay. `qframe.calibrate` sets it to the upper end of a range. It is clamped
    above 0 with a straight-through gradient, so it can grow again.

    Args:
        bits: b, an integer from 1 to 16. Default 4.
        alpha: the initial value of α, a positive finite number. Default 10.0.
        alpha_decay: λ of the loss :math:`\lambda \alpha^2` that the layer adds, 0 or a
            positive number. Default 0.0.

    Raises:
        ArgumentError: an argument has another value.

    Example:
        >>> import qframe as qf
        >>> q = qf.quantizers.PACT(bits=2, alpha=6.0)
        >>> [float(v) for v in q([-1.0, 2.5, 9.0])]
        [0.0, 2.0, 6.0]

    Paper: Choi et al., 2018, https://arxiv.org/abs/1805.06085
    """

    def __init__(
        self, bits: int = 4, alpha: float = 10.0, alpha_decay: float = 0.0, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.bits = integer_within("PACT", "bits", bits, 1, 16)
        self.alpha = finite_number("PACT", "alpha", alpha)
        self.alpha_decay = number_from_zero("PACT", "alpha_decay", alpha_decay)
        self.precision = self.bits

    @property
    def steps(self) -> int:
        """The number of steps of the grid."""
        return 2**self.bits - 1

    @property
    def traits(self) -> Traits:
        return Traits(
            levels=tuple(map(float, range(self.steps + 1))) if self.bits <= 8 else None,
            range=(0.0, float(self.steps)),
            elementwise=True,
            idempotent=True,
            monotone=True,
            trainable=True,
            ranged=True,
            scaled=True,
            reference=self.reference,
            surrogate=self.surrogate,
        )

    def build(self, input_shape: Any) -> None:
        decay = keras.regularizers.L2(self.alpha_decay) if self.alpha_decay else None
        self.bound = self.add_weight(
            name="alpha",
            shape=(),
            initializer=keras.initializers.Constant(self.alpha),
            regularizer=decay,
        )

    def call(self, inputs: Any) -> Any:
        x = wide(inputs)
        bound = self._bound(x)
        clipped = clip_through(x, 0, bound)
        step = bound / self.steps
        value = with_gradient(ops.round(clipped / step) * step, clipped)
        return ops.cast(value, inputs.dtype)

    def affine(self, inputs: Any) -> tuple[Any, int]:
        return self._bound(wide(inputs)) / self.steps, 0

    def _bound(self, x: Any) -> Any:
        return positive(ops.cast(self.bound, x.dtype))

    def set_range(self, low: Any, high: Any) -> None:
        """Set α to the upper end."""
        _, high = checked_ends(self, low, high)
        if not high > 0:
            raise ArgumentError(
                f"{self!r} has no bound for a range without positive numbers. It replaces "
                "a ReLU; elsewhere write for example 'lsq'."
            )
        self.bound.assign(high)

    def grid_of_range(self, low: Any, high: Any) -> tuple[Any, Any, int]:
        high = np.maximum(high, 0)
        return np.zeros_like(high), high, self.steps

    def reference(self, x: Any) -> Any:
        """The NumPy reference of the values."""
        wide, bound = wide_array(x), as_array(self.bound)
        step = bound.astype(wide.dtype) / self.steps
        return (np.rint(np.clip(wide, 0, bound) / step) * step).astype(x.dtype)

    def surrogate(self, x: Any) -> Any:
        """The NumPy reference of the gradient."""
        return ((x >= 0) & (wide_array(x) <= as_array(self.bound))).astype(x.dtype)
