"""Checks of arguments: what no float can hold is an error of ours."""

import pytest

from qframe.errors import ArgumentError
from qframe.validation import (
    integer_within,
    momentum_number,
    number_from_zero,
    one_of,
    percentile_number,
    positive_number,
)

pytestmark = pytest.mark.pure


@pytest.mark.parametrize("value", [10**400, -(10**400), 1 << 20_000], ids=range(3))
@pytest.mark.parametrize(
    "check",
    [
        lambda value: positive_number("Sign", "clip_value", value),
        lambda value: number_from_zero("Sign", "clip_value", value),
        lambda value: momentum_number("Sign", value),
        lambda value: percentile_number("Sign", value),
        lambda value: integer_within("Sign", "bits", value, 2, 8),
        lambda value: one_of("Sign", "mode", value, ["a", "b"]),
    ],
    ids=range(6),
)
def test_number_of_an_integer_that_fits_no_float_is_an_error_of_arguments(check, value):
    with pytest.raises(ArgumentError, match="of Sign must be"):
        check(value)
