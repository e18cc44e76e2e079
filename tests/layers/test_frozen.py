"""A frozen layer learns nothing and gathers nothing, whichever came first."""

import keras
import numpy as np
import pytest
from keras import layers

import qframe as qf
from fitting import WITHOUT_XLA

X = np.random.default_rng(0).normal(size=(32, 8)).astype("float32")
Y = X[:, :2]
# The others are made of the parts of these.
QUANTIZERS = ["lsq", "integer(gather='moving_average')"]
OTHERS = ["lsq_plus", "pact", "integer(gather='widest')", "trained_ternary"]


def values(layer):
    return [keras.ops.convert_to_numpy(v).copy() for v in layer.variables]


def freeze(model):
    model.layers[0].trainable = False


def quantize(name):
    # A bound of activations makes zeros of small weights, and nothing moves.
    settings = {"kernel_quantizer": "lsq" if name == "pact" else name}
    if name != "trained_ternary":
        settings["input_quantizer"] = name
    return lambda model: qf.quantize(model, settings)


@pytest.mark.one_case_in(3)
@pytest.mark.parametrize("first", [freeze, None], ids=["frozen first", "quantized first"])
@pytest.mark.parametrize(
    "name", [*QUANTIZERS, *(pytest.param(name, marks=pytest.mark.long) for name in OTHERS)]
)
def test_nothing_of_a_frozen_layer_changes(name, first):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((8,)), layers.Dense(4), layers.Dense(2)])
    steps = [freeze, quantize(name)] if first else [quantize(name), freeze]
    for step in steps:
        step(model)
    model.compile(keras.optimizers.SGD(0.1), "mse", **WITHOUT_XLA)
    before, others = values(model.layers[0]), values(model.layers[1])
    model.fit(3 * X, Y, epochs=2, verbose=0)
    for now, was in zip(values(model.layers[0]), before, strict=True):
        np.testing.assert_array_equal(now, was)
    moved = zip(values(model.layers[1]), others, strict=True)
    assert sum((now != was).any() for now, was in moved) >= 2
    learning = {id(v) for v in model.layers[1].trainable_variables}
    assert {id(v) for v in model.trainable_variables} == learning
    # And on again.
    model.layers[0].trainable = True
    model.compile(keras.optimizers.SGD(0.1), "mse", **WITHOUT_XLA)
    model.fit(3 * X, Y, verbose=0)
    changed = zip(values(model.layers[0]), before, strict=True)
    assert sum((now != was).any() for now, was in changed) >= 3


@pytest.mark.parametrize("name", QUANTIZERS)
def test_layers_that_are_made_frozen(name):
    dense = qf.layers.QuantDense(
        4, kernel_quantizer=name, input_quantizer=name, trainable=False
    )
    model = keras.Sequential([keras.Input((8,)), dense, layers.Dense(2)])
    model.compile("sgd", "mse", **WITHOUT_XLA)
    before = values(dense)
    model.fit(X, Y, verbose=0)
    for now, was in zip(values(dense), before, strict=True):
        np.testing.assert_array_equal(now, was)


def test_a_frozen_layer_draws_nothing():
    model = keras.Sequential([keras.Input((8,)), layers.Dense(4)])
    freeze(model)
    settings = "minifloat(exponent_bits=3, mantissa_bits=1, rounding='stochastic')"
    qf.quantize(model, {"kernel_quantizer": settings})
    calls = [keras.ops.convert_to_numpy(model(X, training=t)) for t in (True, True, False)]
    np.testing.assert_array_equal(calls[0], calls[1])
    np.testing.assert_array_equal(calls[0], calls[2])


class OfCode(keras.Model):
    """Its call takes `training`, and passes it to no layer."""

    def __init__(self):
        super().__init__()
        self.part, self.head = layers.Dense(4), layers.Dense(2)
        self.dropout = layers.Dropout(0.5)

    def call(self, x, training=None):
        return self.head(self.dropout(self.part(x)))


def test_layers_after_a_frozen_layer_train():
    model = OfCode()
    model(X)
    model.part.trainable = False
    settings = dict.fromkeys(
        ["kernel_quantizer", "input_quantizer"], "integer(gather='widest')"
    )
    qf.quantize(model, settings)
    before = values(model.part)
    outputs = [keras.ops.convert_to_numpy(model(X, training=True)) for _ in range(2)]
    assert (outputs[0] != outputs[1]).any()  # what is dropped
    for actual, expected in zip(values(model.part), before, strict=True):
        np.testing.assert_array_equal(actual, expected)
    for quantizer in model.head.quantizers.values():
        (started,) = [v for v in quantizer.variables if v.name == "started"]
        assert keras.ops.convert_to_numpy(started) == 1
    once = [keras.ops.convert_to_numpy(model(X)) for _ in range(2)]
    np.testing.assert_array_equal(*once)
