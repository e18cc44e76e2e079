"""Uniform grids with a learned step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from keras import ops

from qframe.quantizers import (
    Learned,
    Quantizer,
    axes_within_channels,
    clip_through,
    round_through,
)
from qframe.quantizers.arithmetic import with_gradient
from qframe.quantizers.channels import shape_of_state
from qframe.validation import boolean, integer_within


class LearnedGrid(Quantizer):
    """Base of the quantizers that learn their grid."""

    per_channel: bool = False

    def __init__(self, bits: int, signed: bool, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        owner = type(self).__name__
        self.signed = boolean(owner, "signed", signed)
        # A signed grid of one bit has no positive number.
        self.bits = integer_within(owner, "bits", bits, 2 if signed else 1, 16)
        self.precision = self.bits

    @property
    def low(self) -> int:
        """The smallest integer of the grid."""
        return -(2 ** (self.bits - 1)) if self.signed else 0

    @property
    def high(self) -> int:
        """The largest integer of the grid."""
        return self.low + 2**self.bits - 1

    def integer_levels(self) -> range:
        return range(self.low, self.high + 1)

    def build(self, input_shape: Any) -> None:
        shape: tuple[int, ...] = ()
        if self.per_channel:
            shape = shape_of_state(
                input_shape,
                self.channel_axis,
                f"{self!r} learns a step",
                "per_channel=False",
            )
        self.step = Learned(self, "step", shape)

    def step_axes(self, rank: int) -> tuple[int, ...]:
        """The axes over which one step applies."""
        return axes_within_channels(rank, self.channel_axis if self.per_channel else None)

    def scaled_gradient(self, parameter: Any, x: Any) -> Any:
        """`parameter`, with its gradient divided by the root of N times `high`."""
        # N counts one example, so that a larger batch does not shrink the gradient.
        axes = [a for a in self.step_axes(len(x.shape)) if a or not self.batched]
        return with_gradient(parameter, parameter / ops.sqrt(count(x, axes) * self.high))

    def range_shape(self) -> tuple[int, ...]:
        return tuple(self.step.start.shape)

    def on_grid(self, x: Any, step: Any) -> Any:
        """The nearest multiple of the step from `low` to `high` times it."""
        # Clipped just beyond the grid, where x affects no gradient: an infinite x would
        # make the gradient of the step NaN.
        edge = ops.stop_gradient(step)
        x = clip_through(x, (self.low - 1) * edge, (self.high + 1) * edge)
        return round_through(clip_through(x / step, self.low, self.high)) * step


def count(x: Any, axes: Sequence[int]) -> Any:
    """The number of elements along some axes, at least 1."""
    sizes = ops.shape(x)
    product = math.prod(sizes[axis] for axis in axes)
    return ops.maximum(ops.cast(product, x.dtype), 1)
