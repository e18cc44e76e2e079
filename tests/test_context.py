"""The scope in which weights read, and are saved, as quantized."""

import keras
import numpy as np
import pytest

import qframe as qf
from qframe.errors import QFrameError

KERNEL = np.array([[0.5, -0.25], [0.5, 0.5], [-0.125, 2]], "float32")
SIGNS = np.array([[1, -1], [1, 1], [-1, 1]], "float32")


def model():
    made = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, use_bias=False)])
    made.set_weights([KERNEL])
    qf.quantize(made, {"kernel_quantizer": "ste_sign"})
    return made


def test_reading():
    network = model()
    (layer,) = network.layers
    with qf.context.quantized_scope(True):
        assert qf.context.should_quantize()
        np.testing.assert_array_equal(network.get_weights()[0], SIGNS)
        np.testing.assert_array_equal(layer.get_weights()[0], SIGNS)
        np.testing.assert_array_equal(np.array(layer.kernel), SIGNS)
        product = keras.ops.matmul(np.eye(3, dtype="float32"), layer.kernel)
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(product), SIGNS)
        assert layer.kernel.shape == (3, 2)
        assert layer.kernel.name == "kernel"
        assert "quantized" in repr(layer.kernel)
        with qf.context.quantized_scope(False):
            np.testing.assert_array_equal(network.get_weights()[0], KERNEL)
    np.testing.assert_array_equal(network.get_weights()[0], KERNEL)


def test_the_scope_ends_by_an_exception_too():
    with pytest.raises(KeyError), qf.context.quantized_scope(True):
        raise KeyError
    assert not qf.context.should_quantize()


def test_calls_are_as_ever():
    network = model()
    network.layers[0].quantizers["kernel"] = "magnitude_aware_sign"
    expected = keras.ops.convert_to_numpy(network(np.eye(3)))
    with qf.context.quantized_scope(True):
        found = keras.ops.convert_to_numpy(network(np.eye(3)))
    np.testing.assert_array_equal(found, expected)


def test_training_within_is_refused_or_as_ever():
    network = model()
    network.compile("sgd", "mse", jit_compile=False)
    with qf.context.quantized_scope(True):
        if keras.backend.backend() == "jax":
            network.fit(np.eye(3), -SIGNS, verbose=0)
        else:
            with pytest.raises(QFrameError, match="Leave the scope to train"):
                network.fit(np.eye(3), -SIGNS, verbose=0)
            np.testing.assert_array_equal(network.get_weights()[0], SIGNS)
    if keras.backend.backend() != "jax":
        np.testing.assert_array_equal(network.get_weights()[0], KERNEL)
        network.fit(np.eye(3), -SIGNS, verbose=0)
    assert (network.get_weights()[0] != KERNEL).any()


def test_what_is_written_goes_to_the_latent_weights(tmp_path):
    network = model()
    network.save_weights(tmp_path / "latent.weights.h5")
    with qf.context.quantized_scope(True):
        network.set_weights([2 * KERNEL])
    np.testing.assert_array_equal(network.get_weights()[0], 2 * KERNEL)
    with qf.context.quantized_scope(True):
        network.layers[0].kernel.assign(3 * KERNEL)
    np.testing.assert_array_equal(network.get_weights()[0], 3 * KERNEL)
    with qf.context.quantized_scope(True):
        network.load_weights(tmp_path / "latent.weights.h5")
    np.testing.assert_array_equal(network.get_weights()[0], KERNEL)


def test_a_layer_can_be_built_within():
    with qf.context.quantized_scope(True):
        layer = qf.layers.QuantDense(2, kernel_quantizer="ste_sign(clip_value=None)")
        layer.build((None, 3))
        assert {abs(v) for v in np.array(layer.kernel).ravel()} == {1}
