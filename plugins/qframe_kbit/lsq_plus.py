"""Learned step size quantization with an offset."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from keras import ops

from qframe.errors import ArgumentError
from qframe.quantizers import Learned, Traits
from qframe.quantizers.arithmetic import as_array, positive, wide, wide_array
from qframe.quantizers.ranges import checked_ends
from qframe_kbit.learned_grid import LearnedGrid


class LSQPlus(LearnedGrid):
    r"""b bits with a step and an offset that learn.

    .. math:: q(x) = s \left\lfloor \min\left(\max\left(
        \frac{x - \beta}{s}, l\right), h\right) \right\rceil + \beta

    The gradients of x and s are those of `LSQ` at :math:`x - \beta`, and

    .. math:: \frac{dq}{d\beta} = 0 \text{ where } l \le \frac{x - \beta}{s} \le h
        \text{, else } 1

    The gradients of s and β are both divided by :math:`\sqrt{N h}`, as in `LSQ`. Their
    initial values make the grid span the first training batch from its smallest number to
    its largest. The paper then minimizes the squared error, as
    ``qframe.calibrate(model, data, "mse")`` does. The quantizer is meant for asymmetric
    activations with some negative values, such as those of swish. The values have no zero
    point, since β is not a multiple of s.

    Args:
        bits: b, an integer from 1 to 16, from 2 if signed. Default 4.
        signed: whether l is :math:`-2^{b-1}` instead of 0; the offset makes up for a grid
            without a sign. Default False.

    Raises:
        ArgumentError: an argument has another value.

    Example:
        >>> import qframe as qf
        >>> q = qf.quantizers.LSQPlus(bits=2)
        >>> [round(float(v), 3) for v in q([-1.0, 0.2, 3.0, 5.0])]
        [-1.0, 1.0, 3.0, 5.0]

    Paper: Bhalgat et al., 2020, https://arxiv.org/abs/2004.09576
    """

    def __init__(self, bits: int = 4, signed: bool = False, **kwargs: Any) -> None:
        super().__init__(bits, signed, **kwargs)

    @property
    def traits(self) -> Traits:
        return Traits(
            elementwise=True,
            monotone=True,
            trainable=True,
            updates=True,
            ranged=True,
            reference=self.reference,
            surrogate=self.surrogate,
        )

    def build(self, input_shape: Any) -> None:
        super().build(input_shape)
        self.offset = Learned(self, "offset")

    def call(self, inputs: Any, training: bool = False) -> Any:
        x = wide(inputs)
        least, most = _ends(x)
        if training:
            least, most = self.of_batch(ops.min, least), self.of_batch(ops.max, most)
        start = (most - least) / (self.high - self.low)
        step = ops.cast(self.step(start, training), x.dtype)
        offset = ops.cast(self.offset(least - self.low * start, training), x.dtype)
        step = positive(self.scaled_gradient(step, x))
        offset = self.scaled_gradient(offset, x)
        return ops.cast(self.on_grid(x - offset, step) + offset, inputs.dtype)

    def set_range(self, low: Any, high: Any) -> None:
        """Start with the grid that spans this range."""
        low, high = checked_ends(self, low, high)
        step = (high - low) / (self.high - self.low)
        if not step > 0:
            raise ArgumentError(f"{self!r} has no step for the one number {low}.")
        self.step.set(step)
        self.offset.set(low - self.low * step)

    def grid_of_range(self, low: Any, high: Any) -> tuple[Any, Any, int]:
        return low, high, self.high - self.low

    def reference(self, x: Any) -> Any:
        """The NumPy reference of the values."""
        step, offset, steps = self._reference_parts(x)
        nearest = np.rint(np.clip(steps, self.low, self.high))
        return (nearest * step + offset).astype(x.dtype)

    def surrogate(self, x: Any) -> Any:
        """The NumPy reference of the gradient."""
        _, _, steps = self._reference_parts(x)
        return ((steps >= self.low) & (steps <= self.high)).astype(x.dtype)

    def _reference_parts(self, x: Any) -> tuple[Any, Any, Any]:
        """The step, the offset, and ``x - offset`` in steps."""
        x = wide_array(x)
        start = (x.max() - x.min()) / (self.high - self.low)
        step = np.maximum(as_array(self.step(start)).astype(x.dtype), x.dtype.type(1e-12))
        offset = as_array(self.offset(x.min() - self.low * start)).astype(x.dtype)
        return step, offset, (x - offset) / step


def _ends(x: Any) -> tuple[Any, Any]:
    """The smallest and the largest number; zeros for an empty tensor."""
    least, most = ops.min(x, initial=math.inf), ops.max(x, initial=-math.inf)
    empty, zero = ops.greater(least, most), ops.zeros_like(least)
    return ops.where(empty, zero, least), ops.where(empty, zero, most)
