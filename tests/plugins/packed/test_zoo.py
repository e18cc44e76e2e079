"""Reference networks as packed files: what they return, and how large they are."""

import itertools

import keras
import numpy as np
import pytest

import qframe as qf

# Smaller than their images, which take longer.
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


def parts(model):
    """The model in parts, each of which begins with a quantizer or with the images."""
    starts = [
        layer.input for layer in model.layers if getattr(layer, "input_quantizer", None)
    ]
    cuts = [*model.inputs, *starts, *model.outputs]
    for start, end in itertools.pairwise(cuts):
        yield keras.Model(start, end)


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
    x = np.random.default_rng(1).normal(size=(5, *SHAPE)).astype("float32")
    # Each part from the same numbers: where one is so near a threshold that its bit depends
    # on the order of additions, everything behind it differs.
    inputs = x
    for part in parts(logits):
        qf.export(part, path, target="packed")
        expected = keras.ops.convert_to_numpy(part(inputs))  # nothing to trace
        assert expected.std() > 0.1
        actual = qf.packed.load(path, engine="numba").predict(inputs)
        assert np.abs(actual - expected).max() <= 1e-5 * np.abs(expected).max()
        inputs = expected
    # The parts in one file: a wrong connection would be seen in every image, and such a bit
    # is in few of them.
    qf.export(logits, path, target="packed")
    actual = qf.packed.load(path, engine="numba").predict(x)
    errors = np.abs(actual - logits.predict(x, verbose=0)).max(axis=1)
    assert errors.min() <= 1e-5 * np.abs(inputs).max()
    summary = qf.models.profile(model).memory / 8
    assert abs(path.stat().st_size / summary - 1) <= 0.03
