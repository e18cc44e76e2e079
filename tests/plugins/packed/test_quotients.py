"""Multiplication in the place of a division: the same codes for every float."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from qframe_packed.compiled import quotients
from qframe_packed.compiled.quotients import Quotient

pytestmark = pytest.mark.pure
F = np.float32
positive = st.floats(2.0**-20, 2.0**20, width=32)


def rounded(fraction):
    """The float32 nearest to a fraction, by its distances."""
    near = F(float(fraction))
    around = near, np.nextafter(near, F(-np.inf)), np.nextafter(near, F(np.inf))
    return min(
        around,
        key=lambda x: (abs(Fraction(float(x)) - fraction), int(x.view(np.int32)) % 2),
    )


def fused(x, quotient):
    """The product, rounded as the processor does, by fractions."""
    second = F(x) * F(quotient.low)
    total = Fraction(float(x)) * Fraction(quotient.high) + Fraction(float(second))
    return rounded(total)


@given(positive, st.sampled_from([1.0, 255.0, 0.5, 3.0]), st.integers(-300, 300))
@example(0.37, 1.0, -128)
@settings(max_examples=20)
def test_codes_are_those_of_the_division(divisor, factor, bottom):
    """At and around each step, where rounding decides."""
    divisor, factor, top = F(divisor), F(factor), bottom + 40
    quotient = Quotient.of(factor, divisor, bottom, top)
    if quotient.divides:
        return
    steps = ((np.arange(bottom, top) + 0.5) * divisor / factor).astype(F)
    near = [steps, np.nextafter(steps, F(np.inf)), np.nextafter(steps, F(-np.inf))]
    for x in np.concatenate(near):
        found = np.rint(fused(min(x, F(quotient.most)), quotient))
        expected = np.rint(x * factor / divisor)
        assert np.clip(found, bottom, top) == np.clip(expected, bottom, top)


def test_ends_of_the_range_are_not_passed():
    quotient = Quotient.of(F(1), F(0.37), -128, 127)
    assert np.rint(fused(F(quotient.most), quotient)) == 127
    assert math.isfinite(quotient.most)


@given(st.integers(0, 2**32))
@settings(max_examples=30)
def test_products_are_rounded_once(seed):
    """`_products` is what fractions say, ties and double roundings included."""
    rng = np.random.default_rng(seed)
    x = (rng.normal(size=20) * 2.0 ** rng.integers(-8, 9, 20)).astype(F)
    ratio = 1 / np.float64(F(rng.uniform(0.001, 9)))
    high = F(ratio)
    quotient = Quotient(False, float(high), float(F(ratio - high)))
    expected = [fused(one, quotient) for one in x]
    np.testing.assert_array_equal(
        quotients._products(x, high, F(quotient.low)), np.array(expected)
    )


@pytest.mark.parametrize(
    ("factor", "divisor", "bottom", "top"),
    [
        (1, 1e-30, 0, 255),  # the second part would overflow
        (1, 0.37, -5, -5),  # no step proves anything
        (1e-30, 1e10, 0, 255),  # no float32 reaches the steps
        (1, 1e-45, 0, 255),
    ],
)
def test_what_is_not_proven_is_divided(factor, divisor, bottom, top):
    assert Quotient.of(F(factor), F(divisor), bottom, top).divides


@pytest.mark.parametrize("fuses", [True, False])
def test_a_divisor_of_one_needs_no_second_part(monkeypatch, fuses):
    """So that a processor without fused sums multiplies too."""
    monkeypatch.setattr(quotients, "FUSES", fuses)
    assert not Quotient.of(F(4), F(1), 0, 255).divides
    assert Quotient.of(F(1), F(0.37), 0, 255).divides is not fuses
