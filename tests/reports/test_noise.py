"""Signal and noise, against what NumPy says."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from qframe.reports.noise import Noise

NUMBERS = arrays("float32", 12, elements=st.floats(-100, 100, width=32))


@given(NUMBERS, NUMBERS)
def test_against_numpy(before, after):
    noise = Noise.between(before, after)
    a, b = before.astype("float64"), after.astype("float64")
    if np.linalg.norm(a) > 1e-6 and np.linalg.norm(b - a) > 1e-6:
        error = np.linalg.norm(b - a) / np.linalg.norm(a)
        assert noise.relative_error == pytest.approx(error)
        assert noise.decibels == pytest.approx(-20 * math.log10(error), abs=1e-6)
    if np.linalg.norm(a) > 1e-3 and np.linalg.norm(b) > 1e-3:
        cosine = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
        assert noise.cosine == pytest.approx(cosine, abs=1e-6)


@pytest.mark.parametrize(
    ("before", "after", "cells", "rank"),
    [
        ([1, 2], [1, 2], ["exact", "0", "1.0000"], math.inf),
        ([0, 0], [0, 0], ["exact", "0", "?"], math.inf),
        ([0, 0], [1, 2], ["?", "?", "?"], -math.inf),
        ([1, 2], [1, math.nan], ["?", "?", "?"], -math.inf),
        ([1, 2], [1, math.inf], ["?", "?", "?"], -math.inf),
        ([3, 4], [3, 9], ["0.0", "1", "0.9487"], 0),
        ([3, 4], [30, 40], ["-19.1", "9", "1.0000"], -20 * math.log10(9)),
    ],
)
def test_cells_and_rank(before, after, cells, rank):
    noise = Noise.between(np.array(before), np.array(after))
    assert noise.cells() == cells
    assert noise.rank == pytest.approx(rank)
