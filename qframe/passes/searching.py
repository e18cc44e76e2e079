"""The range whose grid costs the least, in NumPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
# As `Quantizer.grid_of_range`.
GridOfRange = Callable[[Any, Any], tuple[Any, Any, int]]
# Of sorted numbers: for grids with so many steps between their ends, the cost of each.
Cost = Callable[[Array, Array, Array, int], Array]

# The parts of a range that are tried: of both ends alike, in steps of 0.3 %, and of each
# end by itself, down to a ten-thousandth. A range that is longer than the numbers can fit
# a grid of few bits better. The first of those that are as good is taken.
_ALIKE = 1.25 ** -(np.arange(-160, 480) / 81)
_APART = 1.25 ** -np.array([*range(41), -1.0, -2.0])
# Then what is near to the best of them, in ever smaller steps: with few bits, or where the
# numbers lie on a grid themselves, there are many hollows.
_HOLLOWS = 4
_NEAR = [1.25 ** (np.arange(-3, 4) / 3**i) for i in range(1, 6)]

_BINS = 2048
# How many entries the tables of a cost have: what fits into a cache.
_TABLE = 2**19


def best_range(
    x: Array, low: float, high: float, grid: GridOfRange, cost: Cost
) -> tuple[float, float]:
    """The ends of the range for which `cost` is smallest.

    Both ends move together as well as apart: a symmetric grid follows the larger one alone.

    Args:
        x: numbers, or a fair sample of them.
        low: the smallest of all numbers.
        high: the largest.
        grid: from both ends to a grid.
        cost: of the grid.
    """
    x = np.sort(x)
    best = np.array([[low, high]])
    parts = np.concatenate([_pairs(_APART), np.repeat(_ALIKE[:, None], 2, axis=1)])
    for near in [*_NEAR, None]:
        tried = (best[:, None] * parts).reshape(-1, 2)
        first, last, steps = grid(*tried.T)
        # Many ranges have the same grid.
        ends = np.stack(np.broadcast_arrays(first, last), axis=1).astype(np.float64)
        kept = np.sort(np.unique(ends, axis=0, return_index=True)[1])
        costs = _in_tables(cost, x, ends[kept], steps)
        best = tried[kept[np.argsort(costs, kind="stable")[:_HOLLOWS]]]
        if near is not None:
            parts = _pairs(near)
    return float(best[0, 0]), float(best[0, 1])


def _pairs(parts: Array) -> Array:
    """Each part of the lower end with each of the upper one."""
    return np.stack([part.ravel() for part in np.meshgrid(parts, parts)], axis=1)


def _in_tables(cost: Cost, x: Array, ends: Array, steps: int) -> Array:
    """The costs of many grids, with tables of a limited size."""
    at_once = max(1, _TABLE // max(steps, _BINS))
    tables = [ends[i : i + at_once] for i in range(0, len(ends), at_once)]
    return np.concatenate([cost(x, part[:, 0], part[:, 1], steps) for part in tables])


def squared_error(x: Array, first: Array, last: Array, steps: int) -> Array:
    """The mean squared error of quantization.

    From sums of the sorted numbers up to each of them, so that its time depends on the
    number of levels, and hardly on that of the numbers.
    """
    step = np.maximum((last - first) / steps, 1e-30)[:, None]
    levels = first[:, None] + step * np.arange(steps + 1)
    inner = np.searchsorted(x, levels[:, :-1] + step / 2)
    bounds = np.pad(inner, ((0, 0), (1, 0)))
    bounds = np.pad(bounds, ((0, 0), (0, 1)), constant_values=len(x))
    sums = np.diff(np.concatenate([[0.0], np.cumsum(x)])[bounds])
    moved = (levels * (levels * np.diff(bounds) - 2 * sums)).sum(1)
    return np.maximum(np.square(x).sum() + moved, 0) / len(x)


def divergence(x: Array, first: Array, last: Array, steps: int) -> Array:
    """The Kullback-Leibler divergence of the quantized histogram from that of the numbers.

    Of 2048 bins, as in Migacz, 2017 (8-bit inference with TensorRT).
    """
    parts = np.arange(_BINS + 1) / _BINS
    edges = first[:, None] + (last - first)[:, None] * parts
    edges[:, -1] = np.nextafter(last, np.inf)  # the last bin holds its upper edge too
    bounds = np.searchsorted(x, edges)
    inside = np.diff(bounds)
    bounds[:, 0], bounds[:, -1] = 0, len(x)
    counts = np.diff(bounds)
    # Each level spreads what it holds evenly over the bins that held something.
    levels = min(steps + 1, _BINS // 2)
    starts = np.arange(levels) * _BINS // levels
    held, filled = (np.add.reduceat(part, starts, axis=1) for part in (inside, counts > 0))
    even = np.repeat(held / np.maximum(filled, 1), np.diff([*starts, _BINS]), axis=1)
    q = np.where(counts > 0, even, 0) + 1e-12
    p, q = counts / len(x), q / q.sum(1, keepdims=True)
    found = (p * np.log(np.where(p > 0, p, 1) / q)).sum(1)
    return np.where(last > first, found, np.inf)
