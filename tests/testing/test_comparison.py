"""Comparisons of arrays in the kit."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from qframe.testing.comparison import neighbours


@given(number=st.floats(-1e6, 1e6, width=32))
def test_the_neighbours_of_a_number_are_on_both_sides_of_it_and_near(number):
    x = np.array([number], "float32")
    (below,), (above,) = neighbours(x)
    assert below < number < above
    assert above - below <= 4e-6 * (1 + abs(number))
