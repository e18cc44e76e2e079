"""The agreement of two tensors, compared with numbers by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qframe.reports.verification.agreement import Agreement, percent

NAN, INF = np.nan, np.inf


@pytest.mark.parametrize(
    ("model", "file", "equal"),
    [
        ([1.0, 100.0], [1.0, 100.0], 2),
        # 1e-5 of the largest magnitude is 0.001, for the small number too.
        ([1.0, 100.0], [1.0009, 100.0009], 2),
        ([1.0, 100.0], [1.0011, 99.998], 0),
        ([0.0, 0.0], [0.0, 1e-30], 1),
        ([NAN, 1.0], [NAN, 1.0], 2),
        ([INF, -INF, 1.0], [INF, INF, 1.0], 2),
        ([1.0, 2.0], [NAN, INF], 0),
        # The largest magnitude is that of finite numbers.
        ([INF, 1.0], [INF, 2.0], 1),
    ],
)
def test_agreement_counts_numbers_within_the_tolerance(model, file, equal):
    actual = Agreement.between(np.array(model), np.array(file), None, 1e-5)
    assert (actual.count, actual.equal_count) == (len(model), equal)
    assert actual.within_one_step is actual.largest_steps is None


def test_agreement_on_a_grid_counts_steps_of_each_channel():
    model = np.array([[0.5, 4.0], [1.0, 8.0]])
    file = np.array([[1.0, 4.0], [2.0, 16.0]])
    actual = Agreement.between(model, file, np.array([0.5, 4.0]), 1e-5)
    assert actual.equal == 0.25
    assert actual.within_one_step == 0.5
    assert actual.largest == 8
    assert actual.largest_steps == 2
    assert actual.mean == (0.5 + 0 + 1 + 8) / 4


def test_agreement_on_a_grid_without_steps_is_equal_or_infinitely_far():
    actual = Agreement.between(np.zeros(2), np.array([0.0, 1.0]), 0.0, 1e-5)
    assert (actual.equal, actual.largest_steps) == (0.5, INF)


def test_agreement_of_nothing_is_whole():
    actual = Agreement.between(np.zeros((0, 3)), np.zeros((0, 3)), 1.0, 1e-5)
    assert (actual.equal, actual.within_one_step, actual.mean) == (1, 1, 0)


@settings(max_examples=30)
@given(st.integers(0, 2**32), st.booleans(), st.integers(0, 6))
def test_agreement_of_parts_adds_up_to_that_of_the_whole(seed, grid, cut):
    rng = np.random.default_rng(seed)
    model = rng.integers(-3, 4, (6, 2)) * 0.5
    file = model + rng.integers(-1, 3, (6, 2)) * 0.5
    # The largest magnitude of each part is that of the whole.
    model[[0, -1]] = file[[0, -1]] = 2
    step = 0.5 if grid else None
    whole = Agreement.between(model, file, step, 1e-5)
    parts = (
        Agreement.between(model[s], file[s], step, 1e-5)
        for s in (slice(cut), slice(cut, 6))
    )
    assert sum(parts, Agreement()) == whole
    assert whole.equal_count == (model == file).sum()


def test_percent_is_whole_for_all_numbers_only():
    shares = {1: "100.00 %", 0: "0.00 %", 0.99999: "> 99.99 %", 1e-6: "< 0.01 %", None: ""}
    assert {share: percent(share) for share in shares} == shares
