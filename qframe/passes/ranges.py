"""Methods of calibration: the range of a quantizer from its inputs, in NumPy."""

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
class InputStatistics:
    """Statistics of the inputs of a quantizer.

    Args:
        low: the smallest number of each example, (examples, channels).
        high: the largest.
        starts: the first example of each batch.
        samples: numbers of all examples, (numbers, channels); None without samples.
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

    def __call__(self, inputs: InputStatistics, grid: GridOfRange) -> tuple[Array, Array]:
        return inputs.low.min(0), inputs.high.max(0)


@attrs.frozen
class MovingAverage:
    """The moving averages of the ends of the batches, as in training."""

    momentum: float = attrs.field(default=0.9, converter=_momentum)
    samples: ClassVar[bool] = False

    def __call__(self, inputs: InputStatistics, grid: GridOfRange) -> tuple[Array, Array]:
        lows = np.minimum.reduceat(inputs.low, inputs.starts)
        highs = np.maximum.reduceat(inputs.high, inputs.starts)
        low, high = lows[0], highs[0]
        for next_low, next_high in zip(lows[1:], highs[1:], strict=True):
            low = low * self.momentum + next_low * (1 - self.momentum)
            high = high * self.momentum + next_high * (1 - self.momentum)
        return low, high


@attrs.frozen
class Percentile:
    """The range that cuts off the same part of the numbers at both ends, unless a point."""

    percentile: float = attrs.field(default=99.99, converter=_percentile)
    samples: ClassVar[bool] = True

    def __call__(self, inputs: InputStatistics, grid: GridOfRange) -> tuple[Array, Array]:
        samples: Any = inputs.samples
        low, high = np.percentile(samples, (100 - self.percentile, self.percentile), axis=0)
        # Where other numbers are rare, nearly all would be at an end or beyond it.
        single = low == high
        return (
            np.where(single, inputs.low.min(0), low),
            np.where(single, inputs.high.max(0), high),
        )


def _search(inputs: InputStatistics, grid: GridOfRange, cost: Cost) -> tuple[Array, Array]:
    """Return the range with the smallest cost by channel."""
    samples: Any = inputs.samples
    ends = zip(samples.T, inputs.low.min(0), inputs.high.max(0), strict=True)
    ranges = [best_range(x, low, high, grid, cost) for x, low, high in ends]
    low, high = np.transpose(ranges)
    return low, high


@attrs.frozen
class SquaredError:
    """The range for which the quantizer has the smallest mean squared error."""

    samples: ClassVar[bool] = True

    def __call__(self, inputs: InputStatistics, grid: GridOfRange) -> tuple[Array, Array]:
        return _search(inputs, grid, squared_error)


@attrs.frozen
class Entropy:
    """The range whose quantized histogram is nearest to that of the numbers."""

    samples: ClassVar[bool] = True

    def __call__(self, inputs: InputStatistics, grid: GridOfRange) -> tuple[Array, Array]:
        return _search(inputs, grid, divergence)


METHODS: dict[str, Any] = {
    "minmax": MinMax,
    "moving_average": MovingAverage,
    "percentile": Percentile,
    "mse": SquaredError,
    "entropy": Entropy,
}
