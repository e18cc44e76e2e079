"""Layers that Keras saves as one object, with their current quantizers."""

import keras
import numpy as np
import pytest
from keras import layers

import qframe as qf
from qframe.layers.quantized import Quantized

X = np.random.default_rng(0).normal(size=(4, 6, 8)).astype("float32")
LAST = {
    "plain": lambda: layers.Dense(4),
    "explicit": lambda: qf.layers.QuantDense(
        4, kernel_quantizer="ste_tern(clip_value=None)"
    ),
}
SIGN = {"kernel_quantizer": "ste_sign(clip_value=None)"}


@keras.saving.register_keras_serializable("units")
class OfCode(keras.Model):
    def __init__(self, last="plain", **kwargs):
        super().__init__(**kwargs)
        self.last = last
        self.part, self.head = layers.Dense(6), LAST[last]()

    def call(self, x):
        return self.head(self.part(x))

    def get_config(self):
        return {"name": self.name, "last": self.last}


@keras.saving.register_keras_serializable("units")
class OfGraph(keras.Model):
    def __init__(self, last="plain", **kwargs):
        x = keras.Input((6, 8))
        super().__init__(x, LAST[last]()(layers.Dense(6)(x)), **kwargs)
        self.last = last

    def get_config(self):
        return {"name": self.name, "last": self.last}


def of_attention():
    x = keras.Input((6, 8))
    return keras.Model(x, layers.MultiHeadAttention(2, 3)(x, x))


def of_cells():
    cells = [layers.LSTMCell(3), layers.GRUCell(2)]
    return keras.Sequential([keras.Input((6, 8)), layers.RNN(cells)])


def around(last="plain"):
    return keras.Sequential([keras.Input((6, 8)), OfCode(last)])


WITH_DENSE = {"code": OfCode, "graph": OfGraph, "around": around}
UNITS = {**WITH_DENSE, "attention": of_attention, "cells": of_cells}


def leaves(model):
    """The layers in a model that have a kernel, in order."""
    return [layer for layer in model._flatten_layers() if hasattr(layer, "kernel")]


def slots(model):
    quantized = [each for each in model._flatten_layers() if isinstance(each, Quantized)]
    return [{slot: repr(q) for slot, q in layer.quantizers.items()} for layer in quantized]


def classes(model):
    return [type(layer) for layer in model._flatten_layers()]


@pytest.fixture(params=UNITS)
def model(request):
    keras.utils.set_random_seed(0)
    model = UNITS[request.param]()
    model(X)
    return model


def assert_saved(model, folder):
    model.save(folder / "model.keras")
    loaded = qf.load_model(folder / "model.keras")
    result, expected = map(keras.ops.convert_to_numpy, (loaded(X), model(X)))
    np.testing.assert_array_equal(result, expected)
    assert slots(loaded) == slots(model)


def test_a_layer_that_is_quantized_alone_is_saved_so(model, tmp_path):
    before, in_float = classes(model), keras.ops.convert_to_numpy(model(X))
    part = leaves(model)[0]
    qf.quantize(part, SIGN)
    assert "kernel" in part.quantizers
    assert np.abs(keras.ops.convert_to_numpy(model(X)) - in_float).max() > 1e-3
    assert_saved(model, tmp_path)
    qf.strip(part)
    assert classes(model) == before
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(model(X)), in_float)
    assert_saved(model, tmp_path)


@pytest.mark.parametrize("name", WITH_DENSE)
def test_a_slot_of_an_explicit_layer_is_saved_as_it_is_now(name, tmp_path):
    model = WITH_DENSE[name]("explicit")
    model(X)
    (explicit,) = (each for each in model._flatten_layers() if isinstance(each, Quantized))
    explicit.quantizers["kernel"] = "ste_sign(clip_value=None)"
    assert_saved(model, tmp_path)
    explicit.quantizers["input"] = "ste_tern(clip_value=None)"
    assert_saved(model, tmp_path)
    for slot in list(explicit.quantizers):
        del explicit.quantizers[slot]
    assert_saved(model, tmp_path)
