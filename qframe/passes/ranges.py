"""From what reached a quantizer to its range: the methods of calibration, in NumPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import attrs
import numpy as np
from numpy.typing import NDArray

from qframe.arguments import momentum_number, percentile_number

Array = NDArray[np.float64]


@attrs.frozen(eq=False)
class Seen:
    """What reached a quantizer.

    Args:
        low: the smallest number of each example, (examples, channels).
        high: the largest.
        samples: numbers of all examples, (numbers, channels), where they were asked for.
    """

    low: Array
    high: Array
    samples: Array | None = None


# As `Quantizer.grid_of_range`.
GridOfRange = Callable[[Any, Any], tuple[Any, Any, int]]


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
    """The moving averages of the ends of the examples, in their order."""

    momentum: float = attrs.field(default=0.9, converter=_momentum)
    samples: ClassVar[bool] = False

    def __call__(self, seen: Seen, grid: GridOfRange) -> tuple[Array, Array]:
        low, high = seen.low[0], seen.high[0]
        for next_low, next_high in zip(seen.low[1:], seen.high[1:], strict=True):
            low = low * self.momentum + next_low * (1 - self.momentum)
            high = high * self.momentum + next_high * (1 - self.momentum)
        return low, high


@attrs.frozen
class Percentile:
    """What leaves out the same part of the numbers above as below."""

    percentile: float = attrs.field(default=99.99, converter=_percentile)
    samples: ClassVar[bool] = True

    def __call__(self, seen: Seen, grid: GridOfRange) -> tuple[Array, Array]:
        samples: Any = seen.samples
        low, high = np.percentile(samples, (100 - self.percentile, self.percentile), axis=0)
        return low, high


# Of numbers, and of the ends of a grid for them and its steps.
Cost = Callable[[Array, float, float, int], float]
# By a search each channel's numbers are looked at 200 times.
_SEARCHED = 2**16


def _searched(seen: Seen, grid: GridOfRange, cost: Cost) -> tuple[Array, Array]:
    """By channel, for each end the part of 100 that are tried with the smallest cost."""
    ends = np.stack([seen.low.min(0), seen.high.max(0)])
    samples: Any = seen.samples
    samples = samples[:: -(-len(samples) // _SEARCHED)]
    parts = np.linspace(1, 0.01, 100)  # of those that are as good, the widest
    for channel, x in enumerate(samples.T):
        pair = ends[:, channel]
        for end in (1, 0):
            tried = np.repeat(pair[:, None], len(parts), axis=1)
            tried[end] *= parts
            best = int(np.argmin([cost(x, *grid(low, high)) for low, high in tried.T]))
            pair[end] = tried[end, best]
    return ends[0], ends[1]


@attrs.frozen
class SquaredError:
    """The range for which the quantizer has the smallest mean squared error."""

    samples: ClassVar[bool] = True

    def __call__(self, seen: Seen, grid: GridOfRange) -> tuple[Array, Array]:
        return _searched(seen, grid, _squared_error)


def _squared_error(x: Array, first: float, last: float, steps: int) -> float:
    step = max((last - first) / steps, 1e-30)
    level = np.clip(np.rint((x - first) / step), 0, steps) * step + first
    return float(np.square(x - level).mean())


@attrs.frozen
class Entropy:
    """The range whose quantized histogram is nearest to that of the numbers.

    By the Kullback-Leibler divergence of 2048 bins, as in Migacz, 2017 (8-bit inference
    with TensorRT).
    """

    samples: ClassVar[bool] = True

    def __call__(self, seen: Seen, grid: GridOfRange) -> tuple[Array, Array]:
        return _searched(seen, grid, _divergence)


def _divergence(x: Array, first: float, last: float, steps: int) -> float:
    if not last > first:
        return float("inf")
    counts, edges = np.histogram(np.clip(x, first, last), 2048, (first, last))
    inside = np.histogram(x[(x >= first) & (x <= last)], edges)[0]
    # Each level spreads what it holds evenly over the bins that held something.
    starts = np.arange(min(steps + 1, 1024)) * 2048 // min(steps + 1, 1024)
    held, filled = (np.add.reduceat(part, starts) for part in (inside, counts > 0))
    even = np.repeat(held / np.maximum(filled, 1), np.diff([*starts, 2048]))
    q = np.where(counts > 0, even, 0) + 1e-12
    p, q = counts / counts.sum(), q / q.sum()
    kept = p > 0
    return float((p[kept] * np.log(p[kept] / q[kept])).sum())


METHODS: dict[str, Any] = {
    "minmax": MinMax,
    "moving_average": MovingAverage,
    "percentile": Percentile,
    "mse": SquaredError,
    "entropy": Entropy,
}
