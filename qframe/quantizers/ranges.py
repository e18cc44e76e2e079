"""The range that a quantizer gathers from what it sees in training."""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops
from numpy.typing import NDArray

from qframe import context
from qframe.errors import ArgumentError

GATHERS = ("moving_average", "widest")


def checked_ends(
    quantizer: Any, low: Any, high: Any
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both ends of a range to be set, in the shape that a quantizer keeps them in.

    Args:
        quantizer: whose `range_shape` it is; built.
        low: the lower end, a number or an array that broadcasts to that shape.
        high: the upper end.

    Raises:
        ArgumentError: the quantizer is not built, or these are no ends of a range.
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

    It starts as the range of the first batch, and until then is that of the tensor at
    hand. Frozen, it stays as it is. Where replicas train on parts of a batch, it is that
    of the whole batch.

    Args:
        quantizer: whose range it is; called in its ``build``.
        shape: of each end. Default (), a number.
        gather: ``"moving_average"`` or ``"widest"``, the smallest and the largest so far.
        momentum: of the moving average, the part that stays, from 0 up to 1 without 1.

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
        def variable(name: str, shape: tuple[int, ...]) -> Any:
            # Each replica assigns the same.
            return quantizer.add_weight(
                name=name,
                shape=shape,
                initializer="zeros",
                trainable=False,
                aggregation="only_first_replica",
            )

        self._of_batch = quantizer.of_batch
        self.gather, self.momentum = gather, momentum
        self.low, self.high = variable("low", shape), variable("high", shape)
        self.started, self.frozen = variable("started", ()), variable("frozen", ())

    def __call__(self, low: Any, high: Any, training: bool = False) -> tuple[Any, Any]:
        """Both ends; `low` and `high` are those of the tensor at hand."""
        # Tensors of them first: JAX takes no Keras variable in some of its functions.
        started, frozen = (
            ops.convert_to_tensor(v) > 0 for v in (self.started, self.frozen)
        )
        before = [ops.convert_to_tensor(v) for v in (self.low, self.high)]
        found = [ops.stop_gradient(ops.cast(v, self.low.dtype)) for v in (low, high)]
        if training:
            reduces = ops.min, ops.max
            found = [self._of_batch(r, v) for r, v in zip(reduces, found, strict=True)]
        ends = [ops.where(started, a, b) for a, b in zip(before, found, strict=True)]
        if training and not context.current().frozen:
            # A step of mixed precision that overflows is left out, and so is its range.
            usable = ops.all(ops.isfinite(found[0])) & ops.all(ops.isfinite(found[1]))
            usable = ops.logical_and(usable, ops.logical_not(frozen))
            ends = [
                ops.where(ops.logical_and(usable, started), self._gathered(i, *pair), end)
                for i, (pair, end) in enumerate(
                    zip(zip(before, found, strict=True), ends, strict=True)
                )
            ]
            begins = ops.logical_or(started, usable)
            for variable, end, was in zip((self.low, self.high), ends, before, strict=True):
                variable.assign(ops.where(begins, end, was))
            self.started.assign(ops.cast(begins, self.started.dtype))
        return ends[0], ends[1]

    def _gathered(self, index: int, before: Any, found: Any) -> Any:
        if self.gather == "widest":
            return (ops.minimum, ops.maximum)[index](before, found)
        return before * self.momentum + found * (1 - self.momentum)

    def set(self, low: Any, high: Any) -> None:
        """Start from these ends, of the shape of the variables."""
        self.low.assign(low)
        self.high.assign(high)
        self.started.assign(1.0)
