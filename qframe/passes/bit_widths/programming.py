"""The choice of one option for each group within a budget, by integer programming."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import attrs
import numpy as np

from qframe.errors import QFrameError

# The solver compares losses and costs up to about 1e-6, so the largest ones are this.
_LARGEST = 1e4


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
    budget = Fraction(budget)
    room = budget - total(smallest)
    if room < 0:
        return None
    left = [
        [o for o in options if Fraction(o.cost) - Fraction(cheapest.cost) <= room]
        for options, cheapest in zip(problem, smallest, strict=True)
    ]
    dearest = [max(options, key=lambda o: o.cost) for options in left]
    best, limit, step = smallest, min(budget, total(dearest)), Fraction(0)
    while limit > total(smallest):
        chosen = _solved(left, limit)
        excess = total(chosen) - budget
        if excess > 0:
            # The solver allows a small excess of its constraints.
            step = max(excess, 2 * step)
            limit -= step
            continue
        best = min(best, chosen, key=loss_of)
        better = _not_worse(left, best)
        if better == left:
            break
        left = better
    return _cheapest(problem, best)


def _not_worse(problem: Problem, best: Sequence[Option]) -> list[list[Option]]:
    """The options that alone do not lose more than a choice does.

    Without them the solver compares the others on a finer scale.
    """
    least = [min(option.loss for option in options) for options in problem]
    most = math.fsum(o.loss - low for o, low in zip(best, least, strict=True))
    return [
        [o for o in options if o.loss - low <= most or o is kept]
        for options, low, kept in zip(problem, least, best, strict=True)
    ]


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


def _solved(problem: Problem, limit: Fraction) -> list[Option]:
    milp, bounds, constraint = _scipy()
    options = [option for group in problem for option in group]
    # A group has one option, so that a constant in all of them changes nothing.
    losses = np.array([o.loss - min(o.loss for o in g) for g in problem for o in g])
    cheapest = [Fraction(min(o.cost for o in g)) for g in problem]
    room = max(float(limit - sum(cheapest)), 0)
    costs = np.array(
        [
            float(Fraction(option.cost) - least)
            for group, least in zip(problem, cheapest, strict=True)
            for option in group
        ]
    )
    losses *= _LARGEST / max(losses.max(), 1e-300)
    scale = _LARGEST / max(costs.max(), 1e-300)
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
            constraint(costs[None] * scale, -np.inf, room * scale),
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
