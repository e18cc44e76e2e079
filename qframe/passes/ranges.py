"""From what reached a quantizer to its range: the methods of calibration, in NumPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import attrs
import numpy as np
from numpy.typing import NDArray

from qframe.errors import ArgumentError

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


def _fraction(name: str, low: float, high: float) -> Any:
    def validate(method: Any, field: Any, value: Any) -> None:
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not number or not low <= value <= high:
            raise ArgumentError(
                f"{field.name} of the method {name!r} must be a number from {low:g} to "
                f"{high:g}, found {value!r}."
            )

    return validate


@attrs.frozen
class MinMax:
    """The smallest and the largest number."""

    samples: ClassVar[bool] = False

    def __call__(self, seen: Seen, bits: int) -> tuple[Array, Array]:
        return seen.low.min(0), seen.high.max(0)


@attrs.frozen
class MovingAverage:
    """The moving averages of the ends of the examples, in their order."""

    momentum: float = attrs.field(default=0.9, validator=_fraction("moving_average", 0, 1))
    samples: ClassVar[bool] = False

    def __call__(self, seen: Seen, bits: int) -> tuple[Array, Array]:
        low, high = seen.low[0], seen.high[0]
        for next_low, next_high in zip(seen.low[1:], seen.high[1:], strict=True):
            low = low * self.momentum + next_low * (1 - self.momentum)
            high = high * self.momentum + next_high * (1 - self.momentum)
        return low, high


@attrs.frozen
class Percentile:
    """What leaves out the same part of the numbers above as below."""

    percentile: float = attrs.field(
        default=99.99, validator=_fraction("percentile", 50, 100)
    )
    samples: ClassVar[bool] = True

    def __call__(self, seen: Seen, bits: int) -> tuple[Array, Array]:
        samples: Any = seen.samples
        low, high = np.percentile(samples, (100 - self.percentile, self.percentile), axis=0)
        return low, high


Cost = Callable[[Array, float, float], float]


def _searched(seen: Seen, cost: Cost) -> tuple[Array, Array]:
    """By channel, for each end the part of 100 that are tried with the smallest cost."""
    ends = np.stack(MinMax()(seen, 0))
    samples: Any = seen.samples
    parts = np.linspace(1, 0.01, 100)  # of those that are as good, the widest
    for channel, x in enumerate(samples.T):
        pair = ends[:, channel]
        for end in (1, 0):
            tried = np.repeat(pair[:, None], len(parts), axis=1)
            tried[end] *= parts
            best = int(np.argmin([cost(x, low, high) for low, high in tried.T]))
            pair[end] = tried[end, best]
    return ends[0], ends[1]


@attrs.frozen
class SquaredError:
    """The range for which evenly spaced levels have the smallest mean squared error."""

    samples: ClassVar[bool] = True

    def __call__(self, seen: Seen, bits: int) -> tuple[Array, Array]:
        steps = 2**bits - 1

        def cost(x: Array, low: float, high: float) -> float:
            step = max(max(high, 0) - min(low, 0), 1e-30) / steps
            base = min(low, 0)
            level = np.clip(np.rint((x - base) / step), 0, steps) * step + base
            return float(np.square(x - level).mean())

        return _searched(seen, cost)


@attrs.frozen
class Entropy:
    """The range whose quantized histogram is nearest to that of the numbers.

    By the Kullback-Leibler divergence of 2048 bins, as in Migacz, 2017 (8-bit inference
    with TensorRT).
    """

    samples: ClassVar[bool] = True

    def __call__(self, seen: Seen, bits: int) -> tuple[Array, Array]:
        levels = min(2**bits, 1024)

        def cost(x: Array, low: float, high: float) -> float:
            if not high > low:
                return float("inf")
            counts, edges = np.histogram(np.clip(x, low, high), 2048, (low, high))
            inside = np.histogram(x[(x >= low) & (x <= high)], edges)[0]
            # Each level spreads what it holds evenly over the bins that held something.
            q = np.concatenate(
                [
                    np.where(all_ > 0, kept.sum() / max((all_ > 0).sum(), 1), 0)
                    for kept, all_ in zip(
                        np.array_split(inside, levels),
                        np.array_split(counts, levels),
                        strict=True,
                    )
                ]
            )
            p = counts / counts.sum()
            q = (q + 1e-12) / (q + 1e-12).sum()
            kept = p > 0
            return float((p[kept] * np.log(p[kept] / q[kept])).sum())

        return _searched(seen, cost)


METHODS: dict[str, Any] = {
    "minmax": MinMax,
    "moving_average": MovingAverage,
    "percentile": Percentile,
    "mse": SquaredError,
    "entropy": Entropy,
}
