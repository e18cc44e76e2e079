"""Quantize, train, save, reload in a fresh process and strip, on every topology."""

import pickle

import keras
import numpy as np
import pytest
from keras import layers

import qframe as qf
from fresh_process import quantized
from lifecycle import SETTINGS, classes, differ, lifecycles, same, values
from topology_models import TOPOLOGIES, Block, named

# One for each way in which Keras saves what is inside.
SAMPLE = [
    "nested two deep",
    "subclassed",
    "layer of layers",
    "bidirectional",
    "self attention",
]


@pytest.mark.every_case
@pytest.mark.sample  # of the lifecycle of each topology
@pytest.mark.parametrize("topology", TOPOLOGIES, ids=str)
def test_quantize_and_strip(topology):
    model = topology.model()
    before, plain, weights = classes(model), topology.call(model), values(model.weights)
    planned = qf.plan(model, SETTINGS)
    assert classes(model) == before
    report = qf.quantize(model, SETTINGS)
    assert report.rows == planned.rows
    assert len(report.quantized) == len(quantized(model)) == topology.kernels
    outputs = topology.call(model)
    assert differ(outputs, plain)
    same(values(model.weights), weights, "weight")
    # The same as the plain model with signs for kernels.
    qf.strip(model, freeze=True)
    assert classes(model) == before
    for a, b in zip(topology.call(model), outputs, strict=True):
        np.testing.assert_allclose(a.astype(float), b.astype(float), 1e-5, 1e-6)
    model.set_weights(weights)
    same(topology.call(model), plain, "output")


@pytest.mark.sample
def test_a_sample_makes_the_whole_journey(tmp_path):
    # The table in docs/topologies.md comes of the same with every topology.
    errors = lifecycles([named(name) for name in SAMPLE], tmp_path)
    assert not errors, "\n".join(f"{where}: {error}" for where, error in errors.items())


@pytest.mark.long
@pytest.mark.parametrize("name", SAMPLE)
def test_pickles(name):
    # Keras reduces a model to the same archive for a deep copy.
    topology = named(name)
    model = topology.model()
    qf.quantize(model, SETTINGS)
    again = pickle.loads(pickle.dumps(model))
    assert len(quantized(again)) == topology.kernels
    same(topology.call(again), topology.call(model), "output")


def test_compiled_training_is_traced_again():
    topology = named("sequential")
    model = topology.model()
    model.compile("sgd", "mse", jit_compile=False)
    topology.fit(model)
    twin = topology.model()
    twin.set_weights(model.get_weights())
    twin.compile("sgd", "mse", jit_compile=False)
    qf.quantize(model, SETTINGS)
    qf.quantize(twin, SETTINGS)
    assert topology.fit(model) == topology.fit(twin)
    same(values(model.trainable_variables), values(twin.trainable_variables), "weight")


def test_momentum_stays():
    model = named("sequential").model()
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), "mse")
    model.optimizer.build(model.trainable_variables)
    ones = [np.ones(v.shape, "float32") for v in model.trainable_variables]
    model.optimizer.apply([keras.ops.convert_to_tensor(one) for one in ones])
    before = values(model.optimizer.variables)
    assert sum(np.allclose(value, -0.1) for value in before) == len(ones)
    qf.quantize(model, SETTINGS)
    same(values(model.optimizer.variables), before, "optimizer")


def test_a_model_that_is_not_compiled_is_saved_and_loaded(tmp_path):
    topology = named("nested two deep")
    model = topology.model()
    qf.quantize(model, SETTINGS)
    model.save(tmp_path / "m.keras")
    again = qf.load_model(tmp_path / "m.keras")
    assert not again.compiled
    assert len(quantized(again)) == topology.kernels
    same(topology.call(again), topology.call(model), "output")


def test_a_layer_that_two_models_share_is_quantized_in_both():
    x, dense = keras.Input((8,)), layers.Dense(4)
    one = keras.Model(x, layers.Dense(2)(dense(x)))
    other = keras.Model(x, layers.Dense(3)(dense(x)))
    assert len(qf.quantize(one, SETTINGS).quantized) == 2
    assert quantized(other).keys() == {dense.name}
    assert len(qf.quantize(other, SETTINGS).quantized) == 2
    qf.strip(one)
    assert [type(layer) for layer in one.layers[1:]] == [layers.Dense] * 2
    assert type(dense) is layers.Dense
    assert len(quantized(other)) == 1
    qf.strip(other)
    assert quantized(other) == {}


def test_a_model_in_two_models_is_saved_with_each(tmp_path):
    encoder = keras.Sequential([keras.Input((8,)), layers.Dense(4)])
    x = keras.Input((8,))
    one = keras.Model(x, layers.Dense(2)(encoder(x)))
    other = keras.Model(x, layers.Dense(3)(encoder(x)))
    qf.quantize(one, SETTINGS)
    inputs = keras.ops.ones((2, 8))
    for model, count in ((one, 2), (other, 1)):
        model.save(tmp_path / "m.keras")
        again = qf.load_model(tmp_path / "m.keras")
        assert len(quantized(again)) == count
        same(values([again(inputs)]), values([model(inputs)]), "output")


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow",
    reason="JAX, and a Keras layer on PyTorch, compute in 32 bits",
)
def test_float64():
    # Not a model, which Keras lets cast its inputs to its own policy.
    dense = layers.Dense(4, dtype="float64")
    dense.build((None, 8))
    inputs = np.random.default_rng(0).normal(size=(2, 8))
    kernel, bias = dense.get_weights()
    qf.quantize(dense, SETTINGS)
    actual = keras.ops.convert_to_numpy(
        dense(keras.ops.convert_to_tensor(inputs, "float64"))
    )
    assert actual.dtype == "float64"
    np.testing.assert_allclose(
        actual, inputs @ np.where(kernel < 0, -1, 1) + bias, 0, 1e-13
    )


def test_a_subclassed_model_from_its_config_is_quantized_from_the_first_call():
    topology = named("subclassed")
    model = topology.model()
    qf.quantize(model, SETTINGS)
    again = type(model).from_config(model.get_config())
    first = topology.call(again)
    assert len(quantized(again)) == topology.kernels
    again.set_weights(model.get_weights())
    same(topology.call(again), topology.call(model), "output")
    assert differ(topology.call(again), first)


def test_a_plan_for_layers_that_are_not_there_is_an_error():
    model = named("layer of layers").model()
    qf.quantize(model, SETTINGS)
    block = model.layers[-1]
    assert isinstance(block, Block)
    config = keras.saving.serialize_keras_object(block)
    ((_, settings),) = config["config"]["plan"].items()
    config["config"]["plan"] = {"7": settings}
    with pytest.raises(qf.errors.QFrameError, match="positions 7"):
        keras.saving.deserialize_keras_object(config)
