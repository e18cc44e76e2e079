"""The range of a tensor, or of each of its channels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from keras import ops

RANGES = ("minmax", "percentile", "mse")
# The one with the smallest error is chosen among the fractions 1 - i / 100 of the range.
# Steps of 1/40 are too coarse for weights of 2 and 3 bits.
_FRACTIONS, _PARTS = 80, 100


def ends(
    x: Any, axes: Sequence[int], percentile: float | None = None, last: int | None = None
) -> tuple[Any, Any]:
    """The smallest and largest number along some axes, or percentiles.

    Both are 0 for an empty tensor.

    Args:
        x: the numbers.
        axes: the axes over which a range applies.
        percentile: above 50; None for the smallest and the largest number.
        last: the size of the last group without its padding, if the axes are those of
            groups. Every range includes 0, but the padding would move a percentile.
    """
    if _must_skip_padding(x, percentile, last):
        whole = ends(x[..., :-1, :], axes, percentile)
        rest = ends(x[..., -1:, :last], axes, percentile)
        low, high = (ops.concatenate(both, -2) for both in zip(whole, rest, strict=True))
        return low, high
    if not axes:
        return x, x
    axis = tuple(axes)
    if percentile is not None and 0 not in x.shape:
        top = percentile / 100
        low, high = (ops.quantile(x, q, axis=axis, keepdims=True) for q in (1 - top, top))
        return ops.cast(low, x.dtype), ops.cast(high, x.dtype)
    infinity = float("inf")
    low = ops.min(x, axis=axis, keepdims=True, initial=infinity)
    high = ops.max(x, axis=axis, keepdims=True, initial=-infinity)
    empty = ops.greater(low, high)
    zero = ops.zeros_like(low)
    return ops.where(empty, zero, low), ops.where(empty, zero, high)


def best_ends(
    x: Any, axes: Sequence[int], quantize: Callable[[Any, Any], Any]
) -> tuple[Any, Any]:
    """The fraction of the range with the smallest mean squared error of `quantize`.

    Args:
        x: the numbers.
        axes: the axes over which a range applies.
        quantize: a function of both ends that returns the quantized numbers.
    """
    low, high = ends(x, axes)
    if not axes:
        return low, high

    def better(index: Any, best: Any) -> Any:
        fraction = 1 - ops.cast(index, x.dtype) / _PARTS
        error = ops.square(quantize(low * fraction, high * fraction) - x)
        error = ops.sum(error, axis=tuple(axes), keepdims=True)
        return (
            ops.minimum(error, best[0]),
            ops.where(error < best[0], fraction, best[1]),
        )

    # A loop of the backend: unrolled, each layer would take seconds to trace.
    start = ops.zeros_like(low) + float("inf"), ops.ones_like(low)
    _, fraction = ops.fori_loop(0, _FRACTIONS, better, start)
    return low * fraction, high * fraction


def _must_skip_padding(x: Any, percentile: float | None, last: int | None) -> bool:
    return percentile is not None and last is not None and last < x.shape[-1]


def reference_ends(
    x: Any, axes: Sequence[int], percentile: float | None = None, last: int | None = None
) -> Any:
    """The NumPy reference of `ends`."""
    if _must_skip_padding(x, percentile, last):
        whole = reference_ends(x[..., :-1, :], axes, percentile)
        rest = reference_ends(x[..., -1:, :last], axes, percentile)
        return tuple(np.concatenate(both, -2) for both in zip(whole, rest, strict=True))
    if not axes or not x.size:
        return (x, x) if x.size else (np.zeros((1,) * x.ndim, x.dtype),) * 2
    if percentile is None:
        return x.min(tuple(axes), keepdims=True), x.max(tuple(axes), keepdims=True)
    limits = np.percentile(x, (100 - percentile, percentile), tuple(axes), keepdims=True)
    return tuple(limits.astype(x.dtype))
