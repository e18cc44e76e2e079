"""The range that a quantizer gathers from its inputs in training."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from keras import ops
from numpy.typing import NDArray

from qframe import context
from qframe.errors import ArgumentError
from qframe.quantizers.replicas import replicated_weight

GATHERS = ("moving_average", "widest")


def checked_ends(
    quantizer: Any, low: Any, high: Any
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both ends of a range as arrays of the `range_shape` of a quantizer.

    Raises:
        ArgumentError: the quantizer is not built, or these are not the ends of a range.
    """
    if not quantizer.built:
        raise ArgumentError(
            f"{quantizer!r} has no range yet, since it is not built. Call its layer once, "
            "or build it with a shape."
        )
    shape = quantizer.range_shape()
    ends = [np.asarray(end, np.float64) for end in (low, high)]
    try:
        low, high = (np.broadcast_to(end, shape) for end in ends)
    except ValueError:
        raise ArgumentError(
            f"the ends of a range of {quantizer!r} have the shape {shape}, found "
            f"{ends[0].shape} and {ends[1].shape}."
        ) from None
    if not (np.isfinite(low).all() and np.isfinite(high).all() and (low <= high).all()):
        raise ArgumentError(
            f"a range of {quantizer!r} goes from a finite number to one that is not "
            f"smaller, found {low} to {high}."
        )
    return low, high


class GatheredRange:
    """Both ends of a tensor, or of each channel, over the batches of training.

    It starts as the range of the first batch, and before that is the range of the current
    tensor. A frozen range does not change. Replicas that train on parts of a batch gather
    the range of the whole batch.

    Args:
        quantizer: the quantizer, in its ``build``.
        shape: the shape of each end. Default (), a number.
        gather: ``"moving_average"`` or ``"widest"``, the smallest and the largest so far.
        momentum: the momentum of the moving average, in [0, 1).

    Example:
        >>> from qframe.quantizers import Quantizer
        >>> from qframe.quantizers.ranges import GatheredRange
        >>> class Clip(Quantizer):
        ...     def build(self, shape):
        ...         self.range = GatheredRange(self, gather="widest")
        ...     def call(self, inputs, training=False):
        ...         low, high = self.range(ops.min(inputs), ops.max(inputs), training)
        ...         return ops.clip(inputs, low, high)
        >>> clip = Clip()
        >>> _ = clip([-1.0, 2.0], training=True)
        >>> [float(v) for v in clip([-3.0, 0.0, 3.0])]
        [-1.0, 0.0, 2.0]
    """

    def __init__(
        self,
        quantizer: Any,
        shape: tuple[int, ...] = (),
        gather: str = "moving_average",
        momentum: float = 0.99,
    ) -> None:
        variable = functools.partial(replicated_weight, quantizer)
        self._of_batch = quantizer.of_batch
        self.gather, self.momentum = gather, momentum
        self.low, self.high = variable("low", shape), variable("high", shape)
        self.started, self.frozen = variable("started"), variable("frozen")

    def __call__(self, low: Any, high: Any, training: bool = False) -> tuple[Any, Any]:
        """Both ends of the range, from `low` and `high` of the current tensor."""
        # Some functions of JAX do not accept Keras variables.
        started, frozen = (
            ops.convert_to_tensor(v) > 0 for v in (self.started, self.frozen)
        )
        before = [ops.convert_to_tensor(v) for v in (self.low, self.high)]
        batch = [ops.stop_gradient(ops.cast(v, self.low.dtype)) for v in (low, high)]
        if training:
            batch = [self._of_batch(ops.min, batch[0]), self._of_batch(ops.max, batch[1])]
        ends = [ops.where(started, *pair) for pair in zip(before, batch, strict=True)]
        if training and not context.current().frozen:
            # A batch may overflow in mixed precision, and then does not count.
            usable = ops.all(ops.isfinite(batch[0])) & ops.all(ops.isfinite(batch[1]))
            usable = ops.logical_and(usable, ops.logical_not(frozen))
            moves = ops.logical_and(usable, started)
            gathered = self._gathered(before, batch)
            ends = [ops.where(moves, *pair) for pair in zip(gathered, ends, strict=True)]
            started = ops.logical_or(started, usable)
            self.low.assign(ops.where(started, ends[0], before[0]))
            self.high.assign(ops.where(started, ends[1], before[1]))
            self.started.assign(ops.cast(started, self.started.dtype))
        return ends[0], ends[1]

    def _gathered(self, before: list[Any], batch: list[Any]) -> list[Any]:
        """The ends after a batch."""
        if self.gather == "widest":
            return [ops.minimum(before[0], batch[0]), ops.maximum(before[1], batch[1])]
        stays, joins = self.momentum, 1 - self.momentum
        return [b * stays + e * joins for b, e in zip(before, batch, strict=True)]

    def set(self, low: Any, high: Any) -> None:
        """Set both ends, of the shape of the variables."""
        self.low.assign(low)
        self.high.assign(high)
        self.started.assign(1.0)
