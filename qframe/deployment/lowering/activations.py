"""Quantizers of activations, as exact thresholds on a grid."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qframe.deployment.graph.operations import Quantize
from qframe.deployment.graph.rounding import rounding_of, roundings
from qframe.deployment.graph.thresholds import Domain, even_thresholds, first_true
from qframe.errors import QFrameError
from qframe.quantizers import Quantizer

Array = NDArray[Any]
# Where a quantizer has its least and most integer, unless a scale is too large, and the
# ends of the numbers, where one may overflow.
_FAR, _END = np.float32(2.0**100), np.finfo(np.float32).max
_EVERY = Domain.of(None)


def quantize_of(quantizer: Any, levels: int = 2**16) -> Quantize:
    """The operation of a quantizer, exact for every float32 number.

    The quantizer itself is called at each threshold and at the float below it, which keeps
    its ties and its rounding; bisection finds thresholds that are not evenly spaced.

    Args:
        quantizer: a quantizer of activations.
        levels: the most levels. Default 2^16.

    Raises:
        QFrameError: it has no fixed thresholds, or too many of them.
    """
    if not isinstance(quantizer, Quantizer):
        raise QFrameError(f"{quantizer!r} is not a qframe quantizer")
    traits = quantizer.traits
    if not (traits.elementwise and traits.monotone):
        raise QFrameError(
            f"{quantizer!r} does not quantize each number by itself, with one scale for "
            "the whole tensor"
        )
    far, end = np.array([-_FAR, _FAR]), np.array([-_END, _END])
    (low, high), scale, zero_point = _integers(quantizer, far)

    def at(x: Array) -> Array:
        integers, scale_here, _ = _integers(quantizer, x)
        if scale_here != scale:
            raise QFrameError(
                f"{quantizer!r} has no fixed scale yet, but another one for each tensor. "
                "Train the model, or write qframe.calibrate(model, data)"
            )
        return integers

    at(far / 2)  # which has another scale, unless it is fixed
    least, most = at(end)
    if least > low or most < high:
        raise QFrameError(
            f"{quantizer!r} overflows between 2^100 and the largest float32 number, where "
            f"it gives the integers {low} to {high} and then {least} to {most}. Use a "
            "smaller range"
        )
    low, high = least, most
    if high - low >= levels:
        raise QFrameError(f"{quantizer!r} has more than {levels} levels, which is the most")
    if not scale > 0 or low == high:
        raise QFrameError(f"{quantizer!r} gives a single value: its range is empty")
    targets = np.arange(low + 1, high + 1)

    def reached(x: Array) -> Array:
        return np.asarray(at(x) >= targets)

    thresholds = _even_thresholds(reached, scale, int(low), int(high))
    if thresholds is None:
        thresholds = _EVERY.thresholds(first_true(reached, _EVERY, targets.shape))
    # A skipped integer has the threshold of the next one.
    distinct = np.append(thresholds[:-1] < thresholds[1:], True)
    step = int(np.gcd.reduce(np.diff(np.append(low, targets[distinct]))))
    thresholds = thresholds[(targets - low) % step == 0]
    rounding = rounding_of(thresholds, scale, int(low), step)
    rule = None if rounding is None else rounding.rule
    return Quantize(thresholds, None, int(low), step, scale, zero_point, rule)


def _even_thresholds(
    reached: Callable[[Array], Array], scale: float, low: int, high: int
) -> Array | None:
    """The thresholds of a quantizer that rounds by a rule; None for any other."""
    for _, group in itertools.groupby(roundings(scale), lambda rounding: rounding.rule):
        candidates = np.stack([even_thresholds(rounding, low, high) for rounding in group])
        candidates = candidates[np.isfinite(candidates).all(axis=1)]
        if not len(candidates):
            continue
        # A call of the quantizer takes much longer than the numbers in it.
        below = np.nextafter(candidates, np.float32(-np.inf))
        at_them, before_them = reached(np.stack([candidates, below]))
        equal = at_them.all(axis=1) & ~before_them.any(axis=1)
        if equal.any():
            return np.asarray(candidates[equal.argmax()])
    return None


def _integers(quantizer: Quantizer, x: Array) -> tuple[Array, float, int]:
    """The integers of float32 numbers, their scale and their zero point."""
    # Activations have a batch.
    result = quantizer.integers(x.astype(np.float32).reshape(-1, 1))
    if result.scale.size > 1 or result.zero_point.size > 1:
        raise QFrameError(f"{quantizer!r} has more than one scale")
    zero_point = int(result.zero_point.reshape(()))
    integers = result.values.astype(np.int64).reshape(x.shape) - zero_point
    return integers, float(result.scale.reshape(())), zero_point
