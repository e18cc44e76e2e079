"""Search for the range whose grid has the smallest cost, in NumPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
# The signature of `Quantizer.grid_of_range`.
GridOfRange = Callable[[Any, Any], tuple[Any, Any, int]]
# From sorted numbers, and the ends and the number of steps of grids, to their costs.
Cost = Callable[[Array, Array, Array, int], Array]

# Factors for both ends together, in steps of 0.3 %, and for each end alone, down to a
# ten-thousandth. A range that is longer than that of the numbers can fit a grid of few bits
# better. The first of equally good ranges wins.
_JOINT_FACTORS = 1.25 ** -(np.arange(-160, 480) / 81)
_SEPARATE_FACTORS = 1.25 ** -np.array([*range(41), -1.0, -2.0])
# The search then refines the best ranges in ever smaller steps. With few bits, or numbers
# on a grid, the cost has many local minima.
_MINIMA = 4
_REFINEMENTS = [1.25 ** (np.arange(-3, 4) / 3**i) for i in range(1, 6)]

_BINS = 2048
# The size of the tables of a cost, which fit into a cache.
_TABLE_SIZE = 2**19


def best_range(
    x: Array, low: float, high: float, grid: GridOfRange, cost: Cost
) -> tuple[float, float]:
    """Return the ends of the range for which `cost` is smallest.

    Both ends move together and separately: a symmetric grid follows the larger one only.

    Args:
        x: numbers, or a fair sample of them.
        low: the smallest of all numbers.
        high: the largest.
        grid: the function from both ends to a grid.
        cost: the cost of the grid.
    """
    x = np.sort(x)
    best = np.array([[low, high]])
    joint = np.repeat(_JOINT_FACTORS[:, None], 2, axis=1)
    coarse = np.concatenate([_pairs(_SEPARATE_FACTORS), joint])
    for factors in [coarse, *map(_pairs, _REFINEMENTS)]:
        ranges = (best[:, None] * factors).reshape(-1, 2)
        first, last, steps = grid(*ranges.T)
        # Many ranges have the same grid.
        ends = np.stack(np.broadcast_arrays(first, last), axis=1).astype(np.float64)
        distinct = np.sort(np.unique(ends, axis=0, return_index=True)[1])
        costs = _costs(cost, x, ends[distinct], steps)
        best = ranges[distinct[np.argsort(costs, kind="stable")[:_MINIMA]]]
    return float(best[0, 0]), float(best[0, 1])


def _pairs(factors: Array) -> Array:
    """Pair each factor of the lower end with each of the upper one."""
    return np.stack([part.ravel() for part in np.meshgrid(factors, factors)], axis=1)


def _costs(cost: Cost, x: Array, ends: Array, steps: int) -> Array:
    """Compute the costs of many grids with tables of a limited size."""
    count = max(1, _TABLE_SIZE // max(steps, _BINS))
    tables = [ends[i : i + count] for i in range(0, len(ends), count)]
    return np.concatenate([cost(x, part[:, 0], part[:, 1], steps) for part in tables])


def squared_error(x: Array, first: Array, last: Array, steps: int) -> Array:
    """Return the mean squared error of quantization.

    Cumulative sums of the sorted numbers make the time depend on the number of levels, and
    hardly on the number of numbers.
    """
    step = np.maximum((last - first) / steps, 1e-30)[:, None]
    levels = first[:, None] + step * np.arange(steps + 1)
    inner = np.searchsorted(x, levels[:, :-1] + step / 2)
    bounds = np.pad(inner, ((0, 0), (1, 0)))
    bounds = np.pad(bounds, ((0, 0), (0, 1)), constant_values=len(x))
    sums = np.diff(np.concatenate([[0.0], np.cumsum(x)])[bounds])
    change = (levels * (levels * np.diff(bounds) - 2 * sums)).sum(1)
    return np.maximum(np.square(x).sum() + change, 0) / len(x)


def divergence(x: Array, first: Array, last: Array, steps: int) -> Array:
    """Return the Kullback-Leibler divergence of the quantized histogram.

    The histograms have 2048 bins, as in Migacz, 2017 (8-bit inference with TensorRT).
    """
    parts = np.arange(_BINS + 1) / _BINS
    edges = first[:, None] + (last - first)[:, None] * parts
    edges[:, -1] = np.nextafter(last, np.inf)  # the last bin includes its upper edge
    bounds = np.searchsorted(x, edges)
    inside = np.diff(bounds)
    bounds[:, 0], bounds[:, -1] = 0, len(x)
    counts = np.diff(bounds)
    # Each level spreads its count evenly over its bins that are not empty.
    levels = min(steps + 1, _BINS // 2)
    starts = np.arange(levels) * _BINS // levels
    sums, filled = (np.add.reduceat(part, starts, axis=1) for part in (inside, counts > 0))
    even = np.repeat(sums / np.maximum(filled, 1), np.diff([*starts, _BINS]), axis=1)
    q = np.where(counts > 0, even, 0) + 1e-12
    p, q = counts / len(x), q / q.sum(1, keepdims=True)
    divergences = (p * np.log(np.where(p > 0, p, 1) / q)).sum(1)
    return np.where(last > first, divergences, np.inf)
