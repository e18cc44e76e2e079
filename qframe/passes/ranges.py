"""From what reached a quantizer to its range: the methods of calibration, in NumPy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import attrs
import numpy as np

from qframe.passes.searching import (
    Array,
    Cost,
    GridOfRange,
    best_range,
    divergence,
    squared_error,
)
from qframe.validation import momentum_number, percentile_number


@attrs.frozen(eq=False)
class Seen:
    """What reached a quantizer.

    Args:
        low: the smallest number of each example, (examples, channels).
        high: the largest.
        starts: the first example of each batch.
        samples: numbers of all examples, (numbers, channels), where they were asked for.
    """

    low: Array
    high: Array
    starts: Sequence[int]
    samples: Array | None = None


def _momentum(value: Any) -> float:
    return momentum_number("qframe.calibrate", value)


def _percentile(value: Any) -> float:
    return percentile_number("qframe.calibrate", value)


@attrs.frozen
class MinMax:
    """The smallest and the largest number."""

    samples: ClassVar[bool] = False

    def __call__(self, seen: Seen, grid: GridOfRange) -> tuple[Array, Array]:
        return seen.low.min(0), seen.high.max(0)


@attrs.frozen
class MovingAverage:
    """The moving averages of the ends of the batches, as they are gathered in training."""

    momentum: float = attrs.field(default=0.9, converter=_momentum)
    samples: ClassVar[bool] = False

    def __call__(self, seen: Seen, grid: GridOfRange) -> tuple[Array, Array]:
        lows = np.minimum.reduceat(seen.low, seen.starts)
        highs = np.maximum.reduceat(seen.high, seen.starts)
        low, high = lows[0], highs[0]
        for next_low, next_high in zip(lows[1:], highs[1:], strict=True):
            low = low * self.momentum + next_low * (1 - self.momentum)
            high = high * self.momentum + next_high * (1 - self.momentum)
        return low, high


@attrs.frozen
class Percentile:
    """What leaves out the same part of the numbers above as below, unless it is a point."""

    percentile: float = attrs.field(default=99.99, converter=_percentile)
    samples: ClassVar[bool] = True

    def __call__(self, seen: Seen, grid: GridOfRange) -> tuple[Array, Array]:
        samples: Any = seen.samples
        low, high = np.percentile(samples, (100 - self.percentile, self.percentile), axis=0)
        # Where the others are rare, so that nearly all would be at an end or beyond it.
        single = low == high
        return (
            np.where(single, seen.low.min(0), low),
            np.where(single, seen.high.max(0), high),
        )


def _searched(seen: Seen, grid: GridOfRange, cost: Cost) -> tuple[Array, Array]:
    """By channel, the range with the smallest cost."""
    samples: Any = seen.samples
    ends = zip(samples.T, seen.low.min(0), seen.high.max(0), strict=True)
    found = [best_range(x, low, high, grid, cost) for x, low, high in ends]
    low, high = np.transpose(found)
    return low, high


@attrs.frozen
class SquaredError:
    """The range for which the quantizer has the smallest mean squared error."""

    samples: ClassVar[bool] = True

    def __call__(self, seen: Seen, grid: GridOfRange) -> tuple[Array, Array]:
        return _searched(seen, grid, squared_error)


@attrs.frozen
class Entropy:
    """The range whose quantized histogram is nearest to that of the numbers."""

    samples: ClassVar[bool] = True

    def __call__(self, seen: Seen, grid: GridOfRange) -> tuple[Array, Array]:
        return _searched(seen, grid, divergence)


METHODS: dict[str, Any] = {
    "minmax": MinMax,
    "moving_average": MovingAverage,
    "percentile": Percentile,
    "mse": SquaredError,
    "entropy": Entropy,
}
