"""Learned step size quantization."""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops

from qframe.errors import ArgumentError
from qframe.quantizers import Traits
from qframe.quantizers.arithmetic import (
    as_array,
    headroom,
    positive,
    wide,
    wide_array,
)
from qframe.quantizers.ranges import checked_ends
from qframe.validation import boolean
from qframe_kbit.learned_grid import LearnedGrid, count


class LSQ(LearnedGrid):
    r"""b bits with a step that learns.

    .. math:: q(x) = s \lfloor \min(\max(x / s, l), h) \rceil

    .. math:: \frac{dq}{dx} = 1 \text{ where } l \le x / s \le h \text{, else } 0

    .. math:: \frac{dq}{ds} = \lfloor x / s \rceil - x / s \text{ where }
        l \le x / s \le h, \quad l \text{ below}, \quad h \text{ above}

    The integers l to h are :math:`-2^{b-1}` to :math:`2^{b-1} - 1` if signed, else 0 to
    :math:`2^b - 1`. The gradient of s is divided by :math:`\sqrt{N h}`, where N is the
    number of elements with that step: of weights all, of activations those of one example.
    The step starts at :math:`2 \, \mathrm{mean}\,|x| / \sqrt{h}` of the first training
    batch; until then it is computed from each tensor. `qframe.calibrate` sets it to the
    smallest step with which the grid covers a range. It is clamped above 0 with a
    straight-through gradient, so it can grow again.

    Args:
        bits: b, an integer from 1 to 16, from 2 if signed. Default 4.
        signed: whether there are negative values; False fits the output of a ReLU.
            Default True.
        per_channel: a step for each output channel of a weight, or each channel of an
            activation; the layer provides the axis. Default False.

    Raises:
        ArgumentError: an argument has another value; or, when it is built with
            `per_channel`, the number of channels is unknown.

    Example:
        >>> import qframe as qf
        >>> q = qf.quantizers.LSQ(bits=2)  # twice the mean magnitude is a step of 2
        >>> [round(float(v), 3) for v in q([1.2, -2.2, 0.1, 0.5])]
        [2.0, -2.0, 0.0, 0.0]

    Paper: Esser et al., 2019, https://arxiv.org/abs/1902.08153
    """

    def __init__(
        self, bits: int = 4, signed: bool = True, per_channel: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(bits, signed, **kwargs)
        self.per_channel = boolean("LSQ", "per_channel", per_channel)

    @property
    def traits(self) -> Traits:
        integers = tuple(map(float, range(self.low, self.high + 1)))
        return Traits(
            levels=integers if self.bits <= 8 else None,
            range=(float(self.low), float(self.high)),
            elementwise=not self.per_channel,
            idempotent=True,
            monotone=True,
            trainable=True,
            updates=True,
            ranged=True,
            scaled=True,
            reference=self.reference,
            surrogate=self.surrogate,
        )

    def call(self, inputs: Any, training: bool = False) -> Any:
        x = wide(inputs)
        step = positive(self.scaled_gradient(self._step(x, training), x))
        return ops.cast(self.on_grid(x, step), inputs.dtype)

    def affine(self, inputs: Any) -> tuple[Any, int]:
        return positive(self._step(wide(inputs))), 0

    def _step(self, x: Any, training: bool = False) -> Any:
        axes = self.step_axes(len(x.shape))
        size = ops.abs(x)
        factor = headroom(size)
        # A sum along no axes would be that along all of them.
        total = ops.sum(size * factor, axes, self.per_channel) if axes else size * factor
        start = 2 * total / (count(x, axes) * self.high**0.5)
        # The largest number of the grid is finite, too.
        start = ops.minimum(start, factor * (2.0**127 / self.high)) / factor
        return ops.cast(self.step(start, training), x.dtype)

    def set_range(self, low: Any, high: Any) -> None:
        """Start from the smallest step with which the grid covers the range.

        A channel without numbers on this grid gets the largest step of the others.
        """
        step = self._step_to(*checked_ends(self, low, high))
        if not step.max(initial=0) > 0:
            raise ArgumentError(
                f"{self!r} has no step for a range without positive numbers. Write "
                "signed=True, or leave it without a quantizer."
            )
        self.step.set(np.where(step > 0, step, step.max()))

    def grid_of_range(self, low: Any, high: Any) -> tuple[Any, Any, int]:
        step = self._step_to(low, high)
        return self.low * step, self.high * step, self.high - self.low

    def _step_to(self, low: Any, high: Any) -> Any:
        below = np.divide(low, self.low) if self.low else 0.0
        return np.maximum(np.maximum(below, 0), np.divide(high, self.high))

    def reference(self, x: Any) -> Any:
        """The NumPy reference of the values."""
        step, steps = self._reference_parts(x)
        return (np.rint(np.clip(steps, self.low, self.high)) * step).astype(x.dtype)

    def surrogate(self, x: Any) -> Any:
        """The NumPy reference of the gradient."""
        _, steps = self._reference_parts(x)
        return ((steps >= self.low) & (steps <= self.high)).astype(x.dtype)

    def _reference_parts(self, x: Any) -> tuple[Any, Any]:
        """The step, and `x` in steps."""
        x = wide_array(x)
        axes = self.step_axes(x.ndim)
        start = 2 * np.abs(x).mean(axes, keepdims=self.per_channel) / self.high**0.5
        step = np.maximum(as_array(self.step(start)).astype(x.dtype), x.dtype.type(1e-12))
        return step, x / step
