"""A model whose numbers are known."""

import keras
import numpy as np
import pytest

import qframe as qf

RNG = np.random.default_rng(0)
X = RNG.normal(size=(50, 6)).astype("float32")
WEIGHTS = [RNG.normal(size=size).astype("float32") for size in ((6, 5), (5,), (5, 3))]
SLOTS = "kernel_quantizer", "input_quantizer"


def network(*texts):
    """Two layers with a ReLU between, of the same weights each time."""
    layers = [
        keras.layers.Dense(5, name="first"),
        keras.layers.ReLU(name="relu"),
        keras.layers.Dense(3, name="last", use_bias=False),
    ]
    model = keras.Sequential([keras.Input((6,)), *layers], name="known")
    model.set_weights(WEIGHTS)
    if texts:
        qf.quantize(model, dict(zip(SLOTS, texts, strict=False)))
    return model


@pytest.fixture
def x():
    return X


@pytest.fixture
def weights():
    return WEIGHTS


@pytest.fixture
def known():
    return network
