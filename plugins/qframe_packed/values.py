"""What is known of a tensor before it is computed: its shape, and its numbers."""

from __future__ import annotations

import math

import attrs

from qframe.errors import DataError

# One above the largest integer is one of 32 bits too.
LARGEST = 2**31 - 2
# Of one sample of one tensor: 256 MiB of float32.
MOST_ELEMENTS = 2**26


@attrs.frozen
class Span:
    """Integers from `low` to `high`, each `step` apart.

    Signs are ``Span(-1, 1, 2)``, ternary weights ``Span(-1, 1)``; the sums that a
    convolution of integers returns have a span too.
    """

    low: int
    high: int
    step: int = 1

    def __attrs_post_init__(self) -> None:
        inside = -LARGEST <= self.low <= self.high <= LARGEST
        if not inside or self.step < 1 or (self.high - self.low) % self.step:
            raise DataError(
                f"there are no integers from {self.low} to {self.high} in steps of "
                f"{self.step} within 32 bits"
            )

    @property
    def count(self) -> int:
        """How many integers these are."""
        return (self.high - self.low) // self.step + 1

    @property
    def bits(self) -> int:
        """The bits that tell one of them from the others."""
        return max(1, (self.count - 1).bit_length())

    def products(self, other: Span, count: int, *more: int) -> Span:
        """The span of sums of so many products; `more` numbers may be among these."""
        mine = self.low, self.high, *more
        found = [a * b for a in mine for b in (other.low, other.high)]
        return Span(count * min(found), count * max(found))


@attrs.frozen
class Value:
    """A tensor: its shape without the batch, and its span; without one it is float32."""

    shape: tuple[int, ...]
    span: Span | None = None

    def __attrs_post_init__(self) -> None:
        if any(size < 1 for size in self.shape):
            raise DataError(f"a tensor of shape {list(self.shape)} has no elements")
        if math.prod(self.shape) > MOST_ELEMENTS:
            raise DataError(
                f"a tensor of shape {list(self.shape)} has more than {MOST_ELEMENTS} "
                "elements for one sample"
            )
