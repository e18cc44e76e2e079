"""The part of values that changed from one update to the next."""

import itertools

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras import ops

import qframe as qf
from examples import settings
from qframe.errors import ArgumentError

SIGNS = st.lists(
    st.lists(st.sampled_from([-1.0, 1.0]), min_size=6, max_size=6), min_size=1, max_size=6
)


def ratio(batches, **options):
    metric = qf.metrics.FlipRatio(**options)
    for values in batches:
        metric.update_state(np.array(values, "float32"))
    return float(ops.convert_to_numpy(metric.result()))


def expected(batches):
    pairs = [np.not_equal(a, b).mean() for a, b in itertools.pairwise(batches)]
    return np.mean(pairs) if pairs else 0.0


@settings(max_examples=25)
@given(SIGNS)
def test_the_mean_over_updates(batches):
    np.testing.assert_allclose(ratio(batches), expected(batches), rtol=1e-5)


@settings(max_examples=25)
@given(SIGNS, st.lists(st.floats(2.0**-10, 0.9), min_size=6, max_size=6))
def test_a_scale_that_moves_flips_nothing(batches, scales):
    """Larq truncates these to 0 and sees no flip at all."""
    scaled = [np.array(b) * s for b, s in zip(batches, scales, strict=False)]
    np.testing.assert_allclose(ratio(scaled), expected(batches), rtol=1e-5)


def test_by_hand():
    assert ratio([(1, 1), (2, 2), (1, 2)]) == 0.75
    assert ratio([(0.5, -0.5), (0.25, 0.25)]) == 0.5
    assert ratio([(0.5, 0.5), (0.25, 0.5)], values_dtype="float32") == 0.5
    assert ratio([(0.0, 1.0), (0.3, 1.0)]) == 0.5  # ternary
    assert ratio([(300.0, 1.0), (127.0, 1.0)]) == 0  # int8 ends there
    assert ratio([(300.0, 1.0), (127.0, 1.0)], values_dtype="int32") == 0.5
    assert ratio([(1, 1)]) == 0


def test_a_new_mean_still_knows_the_values_before():
    metric = qf.metrics.FlipRatio()
    for values in ([1, 1], [1, -1]):
        metric.update_state(values)
    metric.reset_state()
    assert float(ops.convert_to_numpy(metric.result())) == 0
    metric.update_state([-1, 1])
    assert float(ops.convert_to_numpy(metric.result())) == 1


def test_stateless_as_on_jax():
    metric = qf.metrics.FlipRatio()
    metric.build((2,))
    state = [ops.convert_to_tensor(v) for v in metric.variables]
    for values in ([1, 1], [1, -1]):
        state = metric.stateless_update_state(state, np.array(values))
    assert float(ops.convert_to_numpy(metric.stateless_result(state))) == 0.5
    assert float(ops.convert_to_numpy(metric.result())) == 0


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="a graph")
@pytest.mark.parametrize("jit", [False, True])
def test_in_a_graph(jit):
    import tensorflow as tf

    metric = qf.metrics.FlipRatio()
    metric.build((2,))
    update = tf.function(metric.update_state, jit_compile=jit)
    for values in ([1.0, 1.0], [1.0, -1.0], [1.0, -1.0]):
        update(tf.constant(values))
    assert float(metric.result()) == 0.25


def test_config():
    metric = qf.metrics.FlipRatio("int16", name="flips", dtype="float32")
    config = keras.saving.serialize_keras_object(metric)
    again = keras.saving.deserialize_keras_object(config)
    assert again.get_config() == metric.get_config()
    assert again.values_dtype == "int16"


def test_errors():
    for wrong in ("bool", "string", "int9"):
        with pytest.raises(ArgumentError, match="values_dtype of FlipRatio"):
            qf.metrics.FlipRatio(wrong)
    metric = qf.metrics.FlipRatio()
    metric.update_state([1, 1])
    with pytest.raises(ArgumentError, match="tensors of one shape"):
        metric.update_state([1, 1, 1])
