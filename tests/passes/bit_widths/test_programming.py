"""The integer program against all choices."""

import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples import settings
from in_few_bits import best_by_brute_force
from qframe.errors import QFrameError
from qframe.passes.bit_widths.front import front_of
from qframe.passes.bit_widths.programming import Option, least_loss, loss_of, total

pytestmark = pytest.mark.ends
pytest.importorskip("scipy", reason="the extra ptq is not installed")

options = st.builds(
    Option,
    bits=st.integers(1, 16),
    loss=st.one_of(st.integers(-20, 100).map(float), st.floats(0, 1e3)),
    cost=st.integers(0, 10**6),
)
problems = st.lists(st.lists(options, min_size=1, max_size=4), min_size=1, max_size=5)


@settings(max_examples=60)
@given(problem=problems, part=st.floats(0, 1.1))
def test_least_loss_equals_that_of_all_choices(problem, part):
    smallest, largest = (sum(f(o.cost for o in g) for g in problem) for f in (min, max))
    budget = smallest + part * (largest - smallest)
    chosen = least_loss(problem, budget)
    assert total(chosen) <= budget
    scale = max(abs(o.loss) for group in problem for o in group)
    expected = best_by_brute_force(problem, budget)
    assert loss_of(chosen) == pytest.approx(expected, rel=1e-9, abs=1e-8 * scale)


@pytest.mark.parametrize("wide", ["loss", "cost"])
def test_numbers_of_very_different_sizes_are_compared(wide):
    rng = np.random.default_rng(0)
    ends = {"loss": (0, 1), "cost": (0, 1), wide: (-10, 6)}
    for _ in range(60):
        losses, costs = (10 ** rng.uniform(*ends[n], (4, 4)) for n in ("loss", "cost"))
        problem = [
            list(map(Option, range(4), *each)) for each in zip(losses, costs, strict=True)
        ]
        budget = total([group[rng.integers(4)] for group in problem])
        chosen = least_loss(problem, budget)
        assert total(chosen) <= budget
        expected = best_by_brute_force(problem, budget)
        assert loss_of(chosen) == pytest.approx(expected, rel=1e-9, abs=0)


def test_budget_far_above_all_costs_is_met():
    problem = [[Option(2, 1.0, 1), Option(4, 0.0, 2)]]
    assert least_loss(problem, 10**400) == [problem[0][1]]


@settings(max_examples=30)
@given(problem=problems)
def test_budget_below_the_smallest_cost_has_no_choice(problem):
    smallest = sum(min(o.cost for o in group) for group in problem)
    assert least_loss(problem, smallest - 1) is None
    assert total(least_loss(problem, smallest)) == smallest


def test_of_equal_losses_the_cheaper_is_chosen():
    problem = [[Option(2, 1.0, 5), Option(4, 1.0, 3)], [Option(2, 0.0, 1)]]
    assert [option.bits for option in least_loss(problem, 100)] == [4, 2]


@settings(max_examples=20)
@given(problem=problems)
def test_no_point_of_a_front_beats_another(problem):
    points = [(total(p), loss_of(p)) for p in front_of(problem)]
    assert points[0][0] == sum(min(o.cost for o in group) for group in problem)
    costs, losses = zip(*points, strict=True)
    assert list(costs) == sorted(set(costs))
    assert list(losses) == sorted(set(losses), reverse=True)


def test_missing_scipy_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.optimize", None)
    with pytest.raises(QFrameError, match=r"pip install 'keras-qframe\[ptq\]'"):
        least_loss([[Option(2, 1.0, 1), Option(4, 0.0, 2)]], 2)
