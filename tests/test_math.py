"""Steps without a gradient."""

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras import ops

import qframe as qf
from examples import settings

FLOATS = ["float16", "bfloat16", "float32"]


def run(function, values, dtype):
    result = function(ops.cast(ops.convert_to_tensor(values), dtype))
    assert keras.backend.standardize_dtype(result.dtype) == dtype
    return ops.convert_to_numpy(ops.cast(result, "float32"))


@settings(max_examples=30)
@given(
    st.lists(st.floats(-1e4, 1e4, width=16), min_size=1, max_size=20),
    st.sampled_from(FLOATS),
)
def test_values(values, dtype):
    array = np.array(values, "float32")
    # Between them is nothing but numbers that some devices take for zero.
    big = np.abs(array) >= 2.0**-24
    sign, step = (run(f, values, dtype) for f in (qf.math.sign, qf.math.heaviside))
    np.testing.assert_array_equal(sign[big], np.where(array[big] >= 0, 1, -1))
    np.testing.assert_array_equal(step[big], array[big] > 0)
    assert {*sign} <= {-1, 1}
    assert {*step} <= {0, 1}


@pytest.mark.parametrize("dtype", FLOATS)
def test_zeros_subnormals_infinities_and_nan(dtype):
    values = [0.0, -0.0, np.inf, -np.inf, np.nan]
    nan = np.nan
    np.testing.assert_array_equal(run(qf.math.sign, values, dtype), [1, 1, 1, -1, nan])
    np.testing.assert_array_equal(run(qf.math.heaviside, values, dtype), [0, 0, 1, 0, nan])
    if dtype != "float16":
        tiny = np.array([1e-39, -1e-39] * 9, "float32")  # all lanes of a vector unit
        np.testing.assert_array_equal(run(qf.math.sign, tiny, dtype), np.ones(18))
        np.testing.assert_array_equal(run(qf.math.heaviside, tiny, dtype), np.zeros(18))


@pytest.mark.parametrize("dtype", ["int8", "int32"])
def test_integers(dtype):
    values = np.array([-3, 0, 1, 5])
    np.testing.assert_array_equal(run(qf.math.sign, values, dtype), [-1, 1, 1, 1])
    np.testing.assert_array_equal(run(qf.math.heaviside, values, dtype), [0, 0, 1, 1])


def test_unsigned_integers_and_booleans():
    values = np.array([0, 1, 5])
    np.testing.assert_array_equal(run(qf.math.sign, values, "uint8"), [1, 1, 1])
    np.testing.assert_array_equal(run(qf.math.heaviside, values, "uint8"), [0, 1, 1])
