"""The notes on activations that have no range yet."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import qframe as qf

pytestmark = pytest.mark.once_per_backend
X = np.random.default_rng(0).normal(size=(16, 6)).astype("float32")


def network(*between):
    dense = [layers.Dense(4, name=name) for name in "abcd"]
    return keras.Sequential([keras.Input((6,)), *dense, *between])


def said(model):
    return [note for note in qf.models.profile(model).notes if "range" in note]


def depends_on_the_batch(model):
    both = ops.convert_to_numpy(model(X))
    alone = ops.convert_to_numpy(model(X[:1]))
    return bool(abs(both[:1] - alone).max() > 1e-3 * abs(both).max())


def test_ranges_are_asked_for_once_until_they_are_there():
    model, rules = network(), "integer_inference"
    planned = qf.plan(model, rules).notes
    assert qf.quantize(model, rules).notes == planned == tuple(said(model))
    (note,) = planned
    assert "'a', 'b', 'c' and 1 more" in note
    assert "write qf.calibrate(model, data), or train it" in note
    assert note in str(qf.plan(model, rules))
    assert depends_on_the_batch(model)
    qf.calibrate(model, X, verbose=0)
    assert said(model) == []
    assert qf.plan(model, rules).notes == ()  # the same quantizers stay
    assert not depends_on_the_batch(model)


def test_a_step_of_training_gathers_them():
    model = network()
    qf.quantize(model, {"input_quantizer": "lsq"})
    model(X, training=True)
    assert said(model) == []


def test_of_what_is_frozen_training_gathers_none():
    model = network()
    model.get_layer("b").trainable = False
    rules = {"input_quantizer": "integer(gather='widest')"}
    first, second = qf.plan(model, rules).notes
    assert "'b'" not in first
    assert "'a'" in first
    assert "'b'" in second
    assert "training finds none" in second
    qf.quantize(model, rules)
    assert said(model) == [first, second]
    model(X, training=True)
    assert said(model) == [second]


@pytest.mark.parametrize(
    "settings",
    [
        {"kernel_quantizer": "lsq"},  # a weight is the same in every batch
        {"input_quantizer": "ste_sign"},
        {"input_quantizer": "pact"},  # it has a bound from the start
        {"input_quantizer": "integer"},  # asked to be that of each batch
    ],
)
def test_no_note_for_quantizers_without_a_range(settings):
    assert [n for n in qf.plan(network(), settings).notes if "range" in n] == []


def test_a_quantizer_that_is_a_layer_has_a_range_too():
    model = network(qf.quantizers.Integer(gather="widest", name="grid"))
    (note,) = said(model)
    assert "'grid'" in note
    qf.calibrate(model, X, verbose=0)
    assert said(model) == []
