"""The exact thresholds of a monotone step function.

Bisection runs over all numbers of the domain, so that a comparison with the thresholds
equals the function to the bit, ties and rounding included.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from qframe.deployment.graph.operations import Quantize, Round
from qframe.deployment.graph.rounding import Rounding
from qframe.deployment.graph.values import Span

Array = NDArray[Any]
_LARGEST = int(np.finfo(np.float32).max.view(np.int32))


def _floats(keys: Array) -> Array:
    """The float32 numbers of keys: 0 is 0.0, 1 the smallest positive number, ..."""
    magnitude = np.abs(keys).astype(np.int32).view(np.float32)
    return np.where(keys < 0, -magnitude, magnitude)


@attrs.frozen
class Domain:
    """The ordered numbers of a tensor.

    Args:
        low: the key of the smallest number.
        high: the key of the largest number.
        floats: whether keys count float32 numbers; otherwise they are the numbers.
    """

    low: int
    high: int
    floats: bool

    @classmethod
    def of(cls, span: Span | None) -> Domain:
        """The domain of a tensor with a span, or of the finite floats without one."""
        if span is None:
            return cls(-_LARGEST, _LARGEST, True)
        return cls(span.low, span.high, False)

    def numbers(self, keys: Array) -> Array:
        """The numbers of keys."""
        return _floats(keys) if self.floats else keys.astype(np.int32)

    def thresholds(self, keys: Array) -> Array:
        """Keys as thresholds; every float reaches -inf, and none inf."""
        if self.floats:
            floats = _floats(np.clip(keys, self.low, self.high))
            floats = np.where(keys <= self.low, np.float32(-np.inf), floats)
            return np.where(keys > self.high, np.float32(np.inf), floats)
        small = next(
            dtype
            for dtype in (np.int8, np.int16, np.int32)
            if np.iinfo(dtype).min <= keys.min() and keys.max() <= np.iinfo(dtype).max
        )
        return keys.astype(small)


def first_true(
    predicate: Callable[[Array], Array], domain: Domain, shape: tuple[int, ...]
) -> Array:
    """The smallest keys whose numbers fulfil a monotone predicate.

    Args:
        predicate: takes an array of this shape; from some number on it is true.
        domain: the numbers to try.
        shape: the shape of the result.

    Returns:
        Keys; one above the highest if no number fulfils the predicate.
    """
    low = np.full(shape, domain.low, np.int64)
    high = np.full(shape, domain.high + 1, np.int64)
    while (open_ := low < high).any():
        middle = (low + high) // 2
        true = predicate(domain.numbers(np.minimum(middle, domain.high)))
        high = np.where(open_ & true, middle, high)
        low = np.where(open_ & ~true, middle + 1, low)
    return high


def even_thresholds(rounding: Rounding, low: int, high: int) -> Array:
    """The thresholds of a rounding, the first float32 number of each level above `low`."""
    levels, every = np.arange(low + 1, high + 1), Domain.of(None)
    keys = first_true(
        lambda x: rounding.levels(x, low, high) >= levels, every, levels.shape
    )
    return every.thresholds(keys)


def as_thresholds(operation: Round) -> Quantize:
    """The quantizer that equals a rounding for every float32 number."""
    rounding = Rounding("half_even", operation.divisor, operation.factor)
    thresholds = even_thresholds(rounding, operation.low, operation.high)
    return Quantize(thresholds, low=operation.low, step=1)
