"""Keras models and their packed files, compared."""

import keras
import numpy as np
from hypothesis import assume
from keras import layers

import qframe as qf


def randomized(model, seed=0):
    """Batch norm statistics as of training, scales of any sign and 0 among them."""
    rng = np.random.default_rng(seed)
    for layer in model._flatten_layers():
        if isinstance(layer, layers.BatchNormalization):
            size = layer.moving_mean.shape
            layer.moving_mean.assign(rng.normal(size=size))
            layer.moving_variance.assign(rng.uniform(0.2, 3, size))
            if layer.scale:
                layer.gamma.assign(rng.choice([-0.7, 0, 0.4, 1.1], size))
            if layer.center:
                layer.beta.assign(rng.normal(size=size))
        elif getattr(layer, "bias", None) is not None:
            layer.bias.assign(rng.normal(size=layer.bias.shape))
    return model


def data_of(model, count=5):
    shapes = [tensor.shape[1:] for tensor in model.inputs]
    rng = np.random.default_rng(1)
    return [rng.normal(size=(count, *shape)).astype("float32") for shape in shapes]


# Compiled kernels know no backend: that they compute what NumPy does is seen on TensorFlow.
ENGINE = "numba" if keras.backend.backend() == "tensorflow" else "numpy"


def exported(model, path, target="packed"):
    qf.export(model, path / "m.safetensors", target=target)
    return qf.packed.load(path / "m.safetensors", ENGINE)


def clear(model, x):
    """Which samples have no number so near a step of a quantizer that rounding decides."""
    actual = np.full(len(x), True)
    for layer in model.layers:
        quantizer = getattr(layer, "input_quantizer", None)
        if quantizer is not None:
            before = keras.Model(model.inputs, layer.input)(x, training=False)
            before = keras.ops.convert_to_numpy(before)
            rounding = np.float32(1e-5 * np.abs(before).max())
            low, high = (
                keras.ops.convert_to_numpy(quantizer(keras.ops.convert_to_tensor(near)))
                for near in (before - rounding, before + rounding)
            )
            # What a ReLU cuts off is 0 however it was rounded.
            unsure = (low != high) & (before != 0)
            actual &= ~unsure.any(axis=tuple(range(1, before.ndim)))
    return actual


def check(model, path, tolerance=1e-5, rounded=False):
    """The packed model gives what Keras gives; returns its runtime.

    Where quantizers get what was `rounded` before, of the samples that are clear.
    """
    runtime = exported(model, path)
    x = data_of(model)
    if rounded:
        sure = clear(model, x[0])
        assume(sure.any())
        x = [x[0][sure]]
    expected = model(x if len(x) > 1 else x[0], training=False)
    actual = runtime.predict(x if len(x) > 1 else x[0])
    several = isinstance(expected, (list, tuple))
    for output, target in zip(
        actual if several else [actual], expected if several else [expected], strict=True
    ):
        target = keras.ops.convert_to_numpy(target)
        assert output.shape == target.shape
        scale = max(np.abs(target).max(), 1e-3)
        np.testing.assert_allclose(output, target, atol=tolerance * scale, rtol=tolerance)
    return runtime
