"""The bytes of a LiteRT file are those of weights and ranges, on every backend."""

import hashlib

import keras
import numpy as np
import pytest
from keras import layers

import qframe as qf
from qframe.layers.tree import iter_slots

pytest.importorskip("tflite", reason="in the environments of the newest of each backend")
pytestmark = pytest.mark.once_per_backend
# Of the file on each backend. It changes with what is written for this model.
DIGEST = "79bc1373f363ab1fd1b6c1c50ca4fb2d0bf1ae7ba7be60965fc5bd63cbb8541b"


def model():
    x = keras.Input((12, 12, 3), name="image")
    y = layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False, name="conv")(x)
    y = layers.BatchNormalization(name="norm")(y)
    y = layers.ReLU(6.0, name="relu")(y)
    z = layers.DepthwiseConv2D(3, padding="same", name="depthwise")(y)
    y = layers.Concatenate(name="join")([layers.Add(name="add")([y, z]), z])
    y = layers.GlobalAveragePooling2D(name="mean")(y)
    y = layers.Dense(4, activation="sigmoid", name="dense")(y)
    return keras.Model(x, y)


def test_the_same_weights_and_ranges_give_the_same_bytes(tmp_path):
    made, rng = model(), np.random.default_rng(0)
    qf.quantize(made, "int8")
    for weight in made.weights:
        if "quantizer" not in weight.path:
            weight.assign(rng.uniform(0.1, 1.0, weight.shape))
    for slot in iter_slots(made):
        if slot.quantizer.traits.ranged:
            low, high = sorted(rng.uniform(-2, 6, 2))
            shape = slot.quantizer.range_shape()
            slot.quantizer.set_range(np.full(shape, min(low, 0)), np.full(shape, high))
    path = tmp_path / "m.tflite"
    qf.export(made, path, target="litert")
    assert hashlib.sha256(path.read_bytes()).hexdigest() == DIGEST
