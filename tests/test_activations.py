"""Activations that suit binary networks."""

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras import layers, ops

import qframe as qf
from examples import settings

NUMBERS = st.lists(
    st.floats(-100, 100, width=32, allow_subnormal=False), min_size=1, max_size=20
)


def run(function, values, **options):
    return ops.convert_to_numpy(function(np.array(values, "float32"), **options))


@settings(max_examples=30)
@given(NUMBERS, st.floats(0, 2, width=16))
def test_values(values, alpha):
    x = np.array(values, "float64")
    np.testing.assert_allclose(run(qf.activations.hard_tanh, values), np.clip(x, -1, 1))
    beyond = np.sign(x) * np.maximum(np.abs(x) - 1, 0)
    expected = np.clip(x, -1, 1) + alpha * beyond
    actual = run(qf.activations.leaky_tanh, values, alpha=alpha)
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4)


def test_infinities_and_nan():
    values = [np.inf, -np.inf, np.nan]
    np.testing.assert_array_equal(run(qf.activations.hard_tanh, values), [1, -1, np.nan])
    np.testing.assert_array_equal(run(qf.activations.leaky_tanh, values), values)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_the_dtype_stays(dtype):
    x = ops.ones((2,), dtype)
    for function in (qf.activations.hard_tanh, qf.activations.leaky_tanh):
        assert keras.backend.standardize_dtype(function(x).dtype) == dtype


@pytest.mark.parametrize("name", ["hard_tanh", "leaky_tanh"])
def test_in_a_layer_and_a_file(tmp_path, name):
    function = getattr(qf.activations, name)
    x = np.linspace(-3, 3, 8, dtype="float32").reshape(2, 4)
    model = keras.Sequential(
        [
            keras.Input((4,)),
            qf.layers.QuantDense(3, activation=name),
            layers.Dense(2, activation=function),
            layers.Activation(function),
        ]
    )
    expected = model.predict(x, verbose=0)
    kernel, bias = model.layers[0].get_weights()
    inner = keras.Model(model.inputs, model.layers[0].output).predict(x, verbose=0)
    np.testing.assert_allclose(inner, run(function, x @ kernel + bias), 1e-5, 1e-6)
    model.save(tmp_path / "m.keras")
    again = qf.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(again.predict(x, verbose=0), expected)


def test_keras_and_quantizers_are_found_by_the_same_argument():
    assert qf.activations.get("relu") is keras.activations.relu
    assert qf.activations.get(None) is keras.activations.linear
    layer = qf.layers.QuantDense(2, activation="ste_sign")
    assert layer.activation.precision == 1
    with pytest.raises(ValueError, match="leaky_tan"):
        qf.activations.get("leaky_tan")
    with pytest.raises(qf.errors.UnknownNameError, match="leaky_tan"):
        qf.layers.QuantDense(2, activation="leaky_tan")
