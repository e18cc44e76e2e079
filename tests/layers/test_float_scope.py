"""A model with its quantizers off."""

import keras
import numpy as np
import pytest

import qframe as qf
from qframe.errors import ArgumentError

BINARY = {"weight_quantizer": "ste_sign", "input_quantizer": "ste_sign"}


def dense():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, use_bias=False)])
    model.set_weights([np.array([[0.5, -0.25], [0.5, 0.5], [-0.125, 2]], "float32")])
    model.compile("sgd", "mse", jit_compile=False)
    return model


X = np.array([[2.0, -3.0, 4.0]], "float32")


def outputs(model):
    return keras.ops.convert_to_numpy(model(X))


def test_activations_may_stay():
    model = dense()
    qf.quantize(model, BINARY)
    np.testing.assert_array_equal(outputs(model), [[-1, -1]])
    with qf.float_weights(model, activations=False):
        np.testing.assert_array_equal(outputs(model), [[-0.125, 1.25]])
    with qf.float_weights(model):
        np.testing.assert_array_equal(outputs(model), [[-1, 6]])


def test_traced_functions_of_before_serve_again():
    model = dense()
    qf.quantize(model, BINARY)
    quantized = model.predict(X, verbose=0)
    function = model.predict_function
    with qf.float_weights(model):
        np.testing.assert_array_equal(model.predict(X, verbose=0), [[-1, 6]])
    assert model.predict_function is function
    np.testing.assert_array_equal(model.predict(X, verbose=0), quantized)


def test_training_within_changes_the_latent_weights():
    model = dense()
    qf.quantize(model, {"kernel_quantizer": "ste_sign(clip_value=1e-3)"})
    before = model.get_weights()[0]
    model.fit(X, np.zeros((1, 2)), verbose=0)
    np.testing.assert_array_equal(model.get_weights()[0], before)  # beyond the clip value
    with qf.float_weights(model):
        model.fit(X, np.zeros((1, 2)), verbose=0)
    assert (model.get_weights()[0] != before).all()


def test_a_block_within_a_block():
    model = dense()
    qf.quantize(model, BINARY)
    with qf.float_weights(model, activations=False):
        with qf.float_weights(model):
            np.testing.assert_array_equal(outputs(model), [[-1, 6]])
        np.testing.assert_array_equal(outputs(model), [[-0.125, 1.25]])
    assert "idle_slots" not in model.layers[0].__dict__


def test_the_block_ends_by_an_exception_too():
    model = dense()
    qf.quantize(model, BINARY)
    with pytest.raises(KeyError), qf.float_weights(model):
        raise KeyError
    np.testing.assert_array_equal(outputs(model), [[-1, -1]])


def test_model_saved_within_the_scope_loads_quantized(tmp_path):
    model = dense()
    qf.quantize(model, BINARY)
    with qf.float_weights(model):
        model.save(tmp_path / "m.keras")
    np.testing.assert_array_equal(outputs(qf.load_model(tmp_path / "m.keras")), [[-1, -1]])


def test_a_float_model_is_refused():
    with (
        pytest.raises(ArgumentError, match="has no quantized layer"),
        qf.float_weights(dense()),
    ):
        pass
