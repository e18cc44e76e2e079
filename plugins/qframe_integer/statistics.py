"""The range of a tensor, or of each of its channels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from keras import ops

RANGES = ("minmax", "percentile", "mse")
# How many ranges are tried for the smallest mean squared error: all of it, 97.5 % of it, …
_TRIED = [1 - i / 40 for i in range(32)]


def ends(
    x: Any, axes: Sequence[int], percentile: float | None = None, last: int | None = None
) -> tuple[Any, Any]:
    """The smallest and largest number along some axes, or percentiles of them.

    Without numbers both are 0.

    Args:
        x: the numbers.
        axes: along which there is one range.
        percentile: above 50; None for the smallest and the largest number.
        last: where the axes are those of groups, how many numbers the last group has
            before its zeros. Any range has 0 in it, but the zeros would move a percentile.
    """
    if _is_short(x, percentile, last):
        whole = ends(x[..., :-1, :], axes, percentile)
        rest = ends(x[..., -1:, :last], axes, percentile)
        low, high = (ops.concatenate(both, -2) for both in zip(whole, rest, strict=True))
        return low, high
    if not axes:
        return x, x
    axis = tuple(axes)
    if percentile is not None and 0 not in x.shape:
        part = percentile / 100
        low, high = (ops.quantile(x, q, axis=axis, keepdims=True) for q in (1 - part, part))
        return ops.cast(low, x.dtype), ops.cast(high, x.dtype)
    infinity = float("inf")
    low = ops.min(x, axis=axis, keepdims=True, initial=infinity)
    high = ops.max(x, axis=axis, keepdims=True, initial=-infinity)
    nothing = ops.greater(low, high)
    zero = ops.zeros_like(low)
    return ops.where(nothing, zero, low), ops.where(nothing, zero, high)


def best_ends(
    x: Any, axes: Sequence[int], quantize: Callable[[Any, Any], Any]
) -> tuple[Any, Any]:
    """The part of the range for which the mean squared error of `quantize` is smallest.

    Args:
        x: the numbers.
        axes: along which there is one range.
        quantize: from both ends to the quantized numbers.
    """
    low, high = ends(x, axes)
    if not axes:
        return low, high
    errors = []
    for part in _TRIED:
        error = ops.square(quantize(low * part, high * part) - x)
        errors.append(ops.sum(error, axis=tuple(axes), keepdims=True))
    best = ops.argmin(ops.stack(errors), axis=0)
    part = 1 - ops.cast(best, x.dtype) / 40
    return low * part, high * part


def _is_short(x: Any, percentile: float | None, last: int | None) -> bool:
    return percentile is not None and last is not None and last < x.shape[-1]


def reference_ends(
    x: Any, axes: Sequence[int], percentile: float | None = None, last: int | None = None
) -> Any:
    """The NumPy reference of `ends`."""
    if _is_short(x, percentile, last):
        whole = reference_ends(x[..., :-1, :], axes, percentile)
        rest = reference_ends(x[..., -1:, :last], axes, percentile)
        return tuple(np.concatenate(both, -2) for both in zip(whole, rest, strict=True))
    if not axes or not x.size:
        return (x, x) if x.size else (np.zeros((1,) * x.ndim, x.dtype),) * 2
    if percentile is None:
        return x.min(tuple(axes), keepdims=True), x.max(tuple(axes), keepdims=True)
    found = np.percentile(x, (100 - percentile, percentile), tuple(axes), keepdims=True)
    return tuple(found.astype(x.dtype))
