"""The exact points at which a function that only steps up, or down, takes its steps.

They are found by bisection over all the numbers that there are, so that a comparison with
them equals the function to the bit: its ties and its rounding included.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from qframe_packed.values import Span

Array = NDArray[Any]
_LARGEST = int(np.finfo(np.float32).max.view(np.int32))


def _floats(keys: Array) -> Array:
    """The float32 numbers that these integers count: 0 is 0.0, 1 the one above, ..."""
    magnitude = np.abs(keys).astype(np.int32).view(np.float32)
    return np.where(keys < 0, -magnitude, magnitude)


@attrs.frozen
class Domain:
    """All the numbers that may come in, in order.

    Args:
        low: the key of the smallest.
        high: the key of the largest.
        floats: whether keys count float32 numbers, and are not the numbers themselves.
    """

    low: int
    high: int
    floats: bool

    @classmethod
    def of(cls, span: Span | None) -> Domain:
        """That of a tensor with this span; without one, the finite floats."""
        if span is None:
            return cls(-_LARGEST, _LARGEST, True)
        return cls(span.low, span.high, False)

    def numbers(self, keys: Array) -> Array:
        """The numbers of keys."""
        return _floats(keys) if self.floats else keys.astype(np.int32)

    def thresholds(self, keys: Array) -> Array:
        """Keys as thresholds, one below for all and one above for nothing."""
        if self.floats:
            found = _floats(np.clip(keys, self.low, self.high))
            found = np.where(keys <= self.low, np.float32(-np.inf), found)
            return np.where(keys > self.high, np.float32(np.inf), found)
        small = next(
            dtype
            for dtype in (np.int8, np.int16, np.int32)
            if np.iinfo(dtype).min <= keys.min() and keys.max() <= np.iinfo(dtype).max
        )
        return keys.astype(small)


def first(holds: Callable[[Array], Array], domain: Domain, shape: tuple[int, ...]) -> Array:
    """The first keys whose numbers `holds` is true of, each above them too.

    Args:
        holds: of an array of this shape, whether each number is far enough; from some
            number on it is true.
        domain: where to look.
        shape: of what is returned.

    Returns:
        Keys; one above the highest where `holds` is true of no number.
    """
    low = np.full(shape, domain.low, np.int64)
    high = np.full(shape, domain.high + 1, np.int64)
    while (open_ := low < high).any():
        middle = (low + high) // 2
        true = holds(domain.numbers(np.minimum(middle, domain.high)))
        high = np.where(open_ & true, middle, high)
        low = np.where(open_ & ~true, middle + 1, low)
    return high
