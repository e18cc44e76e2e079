"""The choice of one option for each group within a budget, by integer programming."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import attrs
import numpy as np

from qframe.errors import QFrameError

# The solver compares losses up to about 1e-6, so they are scaled to this largest one.
_LARGEST_LOSS = 1e4


@attrs.frozen
class Option:
    """A choice for a group: its bits, its loss and its cost."""

    bits: int
    loss: float
    cost: float


# The options of each group.
Problem = Sequence[Sequence[Option]]


def least_loss(problem: Problem, budget: float | Fraction) -> list[Option] | None:
    """The option of each group with which the loss is least within a budget.

    Of equal losses it is one with the least cost. The sum of the costs is exact.

    Args:
        problem: the options of each group; at least one each.
        budget: the largest sum of the costs.

    Returns:
        The options; None if no choice is within the budget.

    Raises:
        QFrameError: scipy is not installed, or its solver fails.
    """
    smallest = [min(options, key=lambda o: (o.cost, o.loss)) for options in problem]
    if total(smallest) > Fraction(budget):
        return None
    limit, step = Fraction(budget), Fraction(0)
    while limit > total(smallest):
        chosen = _solved(problem, float(limit))
        excess = total(chosen) - Fraction(budget)
        if excess <= 0:
            return _cheapest(problem, chosen)
        # The solver allows a small excess of its constraints.
        step = max(excess, 2 * step)
        limit -= step
    return _cheapest(problem, smallest)


def total(options: Sequence[Option]) -> Fraction:
    """The exact sum of costs."""
    return sum((Fraction(option.cost) for option in options), Fraction(0))


def loss_of(options: Sequence[Option]) -> float:
    """The sum of losses."""
    return math.fsum(option.loss for option in options)


def _cheapest(problem: Problem, chosen: Sequence[Option]) -> list[Option]:
    """Replace options with cheaper ones of the same loss or less."""
    return [
        min(
            (option for option in options if option.loss <= kept.loss),
            key=lambda option: (option.cost, option.loss),
        )
        for options, kept in zip(problem, chosen, strict=True)
    ]


def _solved(problem: Problem, limit: float) -> list[Option]:
    milp, bounds, constraint = _scipy()
    options = [option for group in problem for option in group]
    losses = np.array([option.loss for option in options])
    # A group has one option, so that a constant of its losses changes nothing.
    least = np.concatenate([[min(o.loss for o in g)] * len(g) for g in problem])
    losses = losses - least
    losses *= _LARGEST_LOSS / max(losses.max(), 1e-300)
    costs = np.array([option.cost for option in options])
    cheapest = np.concatenate([[min(o.cost for o in g)] * len(g) for g in problem])
    costs, room = costs - cheapest, limit - sum(min(o.cost for o in g) for g in problem)
    scale = max(costs.max(), 1e-300)
    one = np.zeros((len(problem), len(options)))
    ends = np.cumsum([len(group) for group in problem])
    for row, (end, group) in enumerate(zip(ends, problem, strict=True)):
        one[row, end - len(group) : end] = 1
    result = milp(
        losses,
        integrality=np.ones(len(options)),
        bounds=bounds(0, 1),
        constraints=[
            constraint(one, 1, 1),
            constraint(costs[None] / scale, -np.inf, max(room, 0) / scale),
        ],
        options={"mip_rel_gap": 0},
    )
    if result.x is None:
        raise QFrameError(
            f"scipy found no bits: {result.message} Tell the authors of qframe, with the "
            "table."
        )
    parts = np.split(result.x, ends[:-1])
    return [group[int(np.argmax(part))] for group, part in zip(problem, parts, strict=True)]


def _scipy() -> tuple[Any, Any, Any]:
    try:
        from scipy.optimize import Bounds, LinearConstraint, milp
    except ImportError as error:
        raise QFrameError(
            "qframe.allocate solves an integer program with scipy, which is not "
            f"installed: {error}. Write: pip install 'keras-qframe[ptq]'."
        ) from error
    return milp, Bounds, LinearConstraint
