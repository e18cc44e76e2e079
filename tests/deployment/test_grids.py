"""Grids of integers, and the proof that a quantizer rounds by a rule."""

import attrs
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from qframe.deployment.graph.kernels import Kernel
from qframe.deployment.graph.rounding import RULES, rounding_of
from qframe.deployment.graph.thresholds import Domain, first_true
from qframe.deployment.graph.values import Grid, Span, Value, same_numbers
from qframe.errors import DataError

pytestmark = pytest.mark.pure
F = np.float32
WAYS = ("divide", "reciprocal", "whole")
SPECIAL = F([np.nan, np.inf, -np.inf, 0, -0.0, 3e38, -3e38, 1e-45, -1e-45])


@pytest.mark.parametrize(
    ("grid", "ends", "expected"),
    [
        (Grid(-128, 127, zero_point=-5), (-128, 127), (-128, 127, -5)),
        (Grid(-128, 127, zero_point=-5), (0, 255), (0, 255, 123)),
        (Grid(0, 3), (-8, 7), (0, 3, 0)),
        (Grid(-3, 0, zero_point=-3), (-8, 7), (-3, 0, -3)),
        (Grid(0, 255), (-128, 127), (-128, 127, -128)),
        (Grid(-1, 1, 2), (-8, 7), (-1, 1, 0)),
    ],
)
def test_within_keeps_the_numbers(grid, ends, expected):
    found = grid.within(*ends)
    assert (found.low, found.high, found.zero_point) == expected
    assert found.span == grid.span


def test_within_a_type_that_is_too_small():
    with pytest.raises(DataError, match="integers from -3 to 4 do not fit a type from 0"):
        Grid(-3, 4).within(0, 6)


def test_products_have_the_scale_of_each_channel():
    kernel = Kernel(np.array([[-2, 1], [3, 3]]), F([0.5, 0.25]))
    grid = Grid(-1, 2, zero_point=-1, scale=2.0).products(kernel, 2)
    assert (grid.low, grid.high) == (-12, 18)
    assert grid.scale.tolist() == [1.0, 0.5]
    # What is padded may be the largest factor.
    assert Grid(0, 1).products(kernel, 1, 7).high == 21


def test_sums_beyond_32_bits_are_known_and_refused_where_asked():
    kernel = Kernel(np.full((1, 2), 2**15 - 1))
    grid = Grid(-(2**15), 2**15 - 1).products(kernel, 2**6)
    grid.check(64)
    with pytest.raises(DataError, match="within 32 bits"):
        grid.check(32)
    with pytest.raises(DataError, match="within 32 bits"):
        _ = grid.span


def test_kernels_of_more_bits_than_any_target_stores():
    with pytest.raises(DataError, match="need 17 bits, and 16 is the most"):
        Kernel(np.arange(2**16 + 1))


def test_kernels_know_their_span():
    assert Kernel(np.array([[3, -3], [3, 3]])).span == Span(-3, 3, 6)
    assert Kernel(np.array([[5]])).span == Span(5, 5, 1)


def test_the_same_numbers():
    value = Value((2,), Grid(0, 3, scale=0.5))
    shifted = Value((2,), Grid(4, 7, scale=0.5, zero_point=4, rounding="half_up"))
    assert same_numbers(value, shifted)
    assert not same_numbers(value, Value((2,), Grid(0, 3)))
    assert not same_numbers(value, Value((2,)))
    assert same_numbers(Value((2,)), Value((3,)))


def by_hand(x, rule, scale, low, high, way):
    """A quantizer that divides, or multiplies by a float or a whole number."""
    steps = x / F(scale) if way == "divide" else x * (F(1) / F(scale))
    if way == "whole":
        steps = x * np.rint(F(1) / F(scale))
    rounded = np.rint(steps) if rule == "half_even" else np.floor(steps + F(0.5))
    return np.clip(rounded, low, high).astype(np.int32)


def thresholds_of(*settings):
    """The thresholds of a rule, a scale, the ends, and the way."""
    low, high = settings[2:4]
    wanted = np.arange(low + 1, high + 1)
    every = Domain.of(None)

    def reached(x):
        with np.errstate(over="ignore"):
            return by_hand(x, *settings) >= wanted

    return every.thresholds(first_true(reached, every, wanted.shape))


@given(
    rule=st.sampled_from([*RULES]),
    scale=st.floats(2.0**-20, 2.0**13, width=32),
    low=st.integers(-130, 10),
    count=st.integers(1, 260),
    way=st.sampled_from(WAYS),
    data=st.data(),
)
def test_a_rule_is_proven_and_one_float_beside_it_is_not(
    rule, scale, low, count, way, data
):
    assume(way != "whole" or scale < 2)
    ends = low, low + count
    thresholds = thresholds_of(rule, scale, *ends, way)
    found = rounding_of(thresholds, scale, low, 1)
    possible = WAYS if scale < 2 else WAYS[:2]
    ways = [thresholds_of(each, scale, *ends, by) for each in RULES for by in possible]
    # Two rules are equal where no tie is within the range.
    same = [np.array_equal(thresholds, each) for each in ways]
    assert found.rule == [*RULES][same.index(True) // len(possible)]
    numbers = np.concatenate([thresholds, np.nextafter(thresholds, F(-np.inf)), SPECIAL])
    expected = low + (numbers[:, None] >= thresholds).sum(axis=1)
    np.testing.assert_array_equal(found.levels(numbers, *ends), expected)
    place = data.draw(st.integers(0, count - 1))
    for end in (-np.inf, np.inf):
        moved = thresholds.copy()
        moved[place] = np.nextafter(moved[place], F(end))
        if not any(np.array_equal(moved, each) for each in ways):
            assert rounding_of(moved, scale, low, 1) is None


def test_no_rule_for_signs_or_thresholds_of_channels():
    assert rounding_of(np.zeros(1, F), 1.0, -1, 2) is None
    assert rounding_of(F([[0.5, 0.5]]), 1.0, 0, 1) is None
    assert rounding_of(F([0.5, np.inf]), 1.0, 0, 1) is None


def test_grids_of_one_scale_for_each_channel_are_compared():
    grid = Grid(0, 3, scale=np.array([1.0, 2.0]))
    assert grid == attrs.evolve(grid, scale=np.array([1.0, 2.0]))
    assert grid != attrs.evolve(grid, scale=np.array([1.0, 3.0]))
