"""The agreement of two tensors that should be the same."""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray


@attrs.frozen
class Agreement:
    """The numbers of a tensor in a model and in its file, compared.

    Args:
        count: how many numbers there are.
        equal_count: how many are equal.
        within_count: how many are within one step; None without a grid.
        largest: the largest difference.
        total: the sum of the differences.
        largest_steps: the largest difference in steps; None without a grid.
    """

    count: int = 0
    equal_count: int = 0
    within_count: int | None = None
    largest: float = 0.0
    total: float = 0.0
    largest_steps: float | None = None

    @classmethod
    def between(
        cls, model: NDArray[Any], file: NDArray[Any], step: Any, tolerance: float
    ) -> Agreement:
        """Compare two tensors of one shape.

        Args:
            model: the tensor of the model.
            file: the tensor of the file.
            step: the step of the grid, or one for each channel; None without a grid.
            tolerance: the part of the largest magnitude of `model` that equal numbers
                may differ by.
        """
        y, f = (np.asarray(x, np.float64) for x in (model, file))
        with np.errstate(invalid="ignore"):
            difference = np.abs(f - y)
        difference[(y == f) | (np.isnan(y) & np.isnan(f))] = 0
        # A number and NaN, or infinities of both signs.
        difference[np.isnan(difference)] = np.inf
        slack = tolerance * np.abs(y[np.isfinite(y)]).max(initial=0)
        equal = difference <= slack
        within = largest_steps = None
        if step is not None:
            step = np.asarray(step, np.float64)
            within = int((difference <= step + slack).sum())
            # A channel with a step of 0 has one number, which has no steps to count.
            with np.errstate(divide="ignore", invalid="ignore"):
                steps = np.where(difference == 0, 0, difference / step)
            largest_steps = float(steps.max(initial=0))
        return cls(
            count=y.size,
            equal_count=int(equal.sum()),
            within_count=within,
            largest=float(difference.max(initial=0)),
            total=float(difference.sum()),
            largest_steps=largest_steps,
        )

    def __add__(self, other: Agreement) -> Agreement:
        """The agreement of two tensors, or of two parts of one."""
        if not self.count or not other.count:
            return other if other.count else self
        steps = self.largest_steps, other.largest_steps
        within = self.within_count, other.within_count
        return Agreement(
            count=self.count + other.count,
            equal_count=self.equal_count + other.equal_count,
            within_count=None if None in within else sum(within),  # type: ignore[arg-type]
            largest=max(self.largest, other.largest),
            total=self.total + other.total,
            largest_steps=None if None in steps else max(steps),  # type: ignore[type-var]
        )

    @property
    def equal(self) -> float:
        """The share of the numbers that are equal."""
        return self.equal_count / self.count if self.count else 1.0

    @property
    def within_one_step(self) -> float | None:
        """The share of the numbers that are within one step; None without a grid."""
        if self.within_count is None:
            return None
        return self.within_count / self.count if self.count else 1.0

    @property
    def mean(self) -> float:
        """The mean difference."""
        return self.total / self.count if self.count else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as JSON types."""
        return {
            "numbers": self.count,
            "equal": self.equal,
            "within_one_step": self.within_one_step,
            "largest_difference": self.largest,
            "mean_difference": self.mean,
            "largest_difference_in_steps": self.largest_steps,
        }

    def cells(self) -> list[str]:
        """Return the cells of a table below `COLUMNS`."""
        steps = "" if self.largest_steps is None else f"{self.largest_steps:.3g}"
        return [
            str(self.count),
            percent(self.equal),
            percent(self.within_one_step),
            f"{self.largest:.3g}",
            steps,
        ]


COLUMNS = ("Numbers", "Equal", "Within\none step", "Largest\ndifference", "In\nsteps")


def percent(share: float | None) -> str:
    """A share in percent; 100 % and 0 % for the whole and nothing only."""
    if share is None:
        return ""
    text = f"{100 * share:.2f}"
    if text == "100.00" and share < 1:
        return "> 99.99 %"
    return "< 0.01 %" if text == "0.00" and share > 0 else f"{text} %"
