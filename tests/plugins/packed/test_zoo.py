"""Reference networks as packed files: what they return, and how large they are."""

import keras
import numpy as np
import pytest

import qframe as qf

# Smaller than their images, so that few numbers are near a threshold.
SHAPE = 96, 96, 3


def as_trained(model):
    """The model with statistics of batch normalization that are not those of the start."""
    rng = np.random.default_rng(0)
    draw = {
        "gamma": lambda shape: rng.uniform(0.5, 1.5, shape),
        "beta": lambda shape: rng.normal(0, 0.3, shape),
        "moving_mean": lambda shape: rng.normal(0, 0.5, shape),
        "moving_variance": lambda shape: rng.uniform(0.5, 2, shape),
    }
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            for weight in layer.weights:
                weight.assign(draw[weight.name](weight.shape))
    return model


@pytest.mark.long
@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="compared once, with TensorFlow"
)
@pytest.mark.parametrize("name", ["QuickNet", "BiRealNet", "BinaryResNetE18"])
def test_as_in_keras(name, tmp_path):
    model = as_trained(getattr(qf.zoo, name)(input_shape=SHAPE))
    # The logits: of random weights the softmax is 0 or 1.
    logits = keras.Model(model.inputs, model.layers[-1].input)
    path = tmp_path / "m.safetensors"
    qf.export(logits, path, target="packed")
    x = np.random.default_rng(1).normal(size=(5, *SHAPE)).astype("float32")
    expected = logits.predict(x, verbose=0)
    assert expected.std() > 0.1
    found = qf.packed.load(path, engine="numba").predict(x)
    # Of an image a float may be so near a threshold that its bit depends on the order in
    # which a sum was rounded; that changes what follows a little.
    errors = np.abs(found - expected).max(axis=1) / np.abs(expected).max()
    assert np.median(errors) <= 1e-3
    assert errors.max() <= 0.1
    summary = qf.models.profile(model).memory / 8
    assert abs(path.stat().st_size / summary - 1) <= 0.03
