"""The shapes of tensors and the grids of their numbers, without their values."""

from __future__ import annotations

import math
from typing import Any

import attrs
import numpy as np

from qframe.errors import DataError

# One more than the largest integer has 32 bits too.
LARGEST = 2**31 - 2
# For one sample of a tensor: 256 MiB of float32.
MOST_ELEMENTS = 2**26


@attrs.frozen
class Span:
    """Integers from `low` to `high`, each `step` apart, within 32 bits.

    Signs are ``Span(-1, 1, 2)``, ternary weights ``Span(-1, 1)``.
    """

    low: int
    high: int
    step: int = 1

    def __attrs_post_init__(self) -> None:
        check_integers(self.low, self.high, self.step)

    @property
    def count(self) -> int:
        """The number of integers."""
        return (self.high - self.low) // self.step + 1

    @property
    def bits(self) -> int:
        """The bits that distinguish the integers."""
        return max(1, (self.count - 1).bit_length())


def check_integers(low: int, high: int, step: int, bits: int = 32) -> None:
    """Raise `DataError` unless the integers are valid and fit the bits."""
    largest = 2 ** (bits - 1) - 2
    if not -largest <= low <= high <= largest or step < 1 or (high - low) % step:
        raise DataError(
            f"there are no integers from {low} to {high} in steps of {step} within "
            f"{bits} bits"
        )


@attrs.frozen
class Grid:
    """The numbers of a tensor: ``scale * (integer - zero_point)``.

    Between operations the graph counts from the zero point, which `span` describes. A
    target stores ``integer`` if its format has zero points.

    Args:
        low: the smallest integer.
        high: the largest integer.
        step: the distance between neighbouring integers. Default 1.
        scale: one positive number, or an array with one for each output channel of a sum
            of products. Default 1.0.
        zero_point: the integer that stands for 0.0. Default 0.
        rounding: the rule in `qframe.deployment.graph.rounding.RULES` that gives the same
            integers as the quantizer for every float32 number; None if no rule does,
            or if the tensor is a sum of products. Default None.

    Example:
        >>> from qframe.deployment.graph.values import Grid
        >>> Grid(-3, 4, scale=0.5).within(0, 15)
        Grid(low=0, high=7, step=1, scale=0.5, zero_point=3, rounding=None)
    """

    low: int
    high: int
    step: int = 1
    scale: Any = attrs.field(default=1.0, eq=attrs.cmp_using(eq=np.array_equal), hash=False)
    zero_point: int = 0
    rounding: str | None = None

    @property
    def span(self) -> Span:
        """The integers counted from the zero point.

        Raises:
            DataError: one of them needs more than 32 bits.
        """
        return Span(self.low - self.zero_point, self.high - self.zero_point, self.step)

    def check(self, bits: int) -> None:
        """Raise `DataError` if an integer, counted from the zero point, does not fit."""
        check_integers(
            self.low - self.zero_point, self.high - self.zero_point, self.step, bits
        )

    def products(self, kernel: Any, count: int, *more: int) -> Grid:
        """The grid of sums of `count` products with the integers of a kernel.

        Args:
            kernel: has a `span` and a `scale`.
            count: the number of products in a sum.
            *more: other factors, counted from the zero point.
        """
        factors = self.low - self.zero_point, self.high - self.zero_point, *more
        ends = [a * b for a in factors for b in (kernel.span.low, kernel.span.high)]
        scale = np.float64(self.scale) * kernel.scale
        return Grid(
            count * min(ends),
            count * max(ends),
            scale=scale if np.ndim(scale) else float(scale),
        )

    def within(self, low: int, high: int) -> Grid:
        """The same numbers as integers of a type, such as -128 to 127.

        The zero point stays where it is if all integers are in the type, and 0 is preferred
        to any other.

        Raises:
            DataError: the type has too few integers.
        """
        span = self.span
        if span.high - span.low > high - low:
            raise DataError(
                f"integers from {span.low} to {span.high} do not fit a type from {low} to "
                f"{high}"
            )
        for zero_point in (self.zero_point, 0, low - span.low):
            if low <= span.low + zero_point and span.high + zero_point <= high:
                break
        ends = span.low + zero_point, span.high + zero_point
        return attrs.evolve(self, low=ends[0], high=ends[1], zero_point=zero_point)


@attrs.frozen
class Value:
    """The shape of a tensor without the batch, and its grid; None for float32."""

    shape: tuple[int, ...]
    grid: Grid | None = None

    def __attrs_post_init__(self) -> None:
        if any(size < 1 for size in self.shape):
            raise DataError(f"a tensor of shape {list(self.shape)} has no elements")
        if math.prod(self.shape) > MOST_ELEMENTS:
            raise DataError(
                f"a tensor of shape {list(self.shape)} has more than {MOST_ELEMENTS} "
                "elements for one sample"
            )

    @property
    def span(self) -> Span | None:
        """The integers counted from the zero point; None for floats."""
        return None if self.grid is None else self.grid.span


def is_one_positive(scale: Any) -> bool:
    """Return whether a scale is one positive number, which keeps the order of integers."""
    return np.ndim(scale) == 0 and bool(scale > 0)


def same_numbers(x: Value, y: Value) -> bool:
    """Return whether two tensors are both floats, or have equal spans and scales."""
    if x.grid is None or y.grid is None:
        return x.grid is y.grid
    return x.span == y.span and np.array_equal(x.grid.scale, y.grid.scale)
