"""The way from a latent variable to the quantizer of its slot."""

import gc

import keras
import numpy as np
import pytest
from keras import layers

import qframe as qf
from qframe.layers import quantizer_of

SIGN = "ste_sign"
CLIPPED = {"kernel_quantizer": SIGN, "kernel_constraint": "weight_clip"}


def quantizers_in(model):
    return [repr(quantizer_of(v)) for v in model.trainable_variables]


BINARY = repr(qf.quantizers.get(SIGN))


def test_of_a_layer_that_is_built_later():
    layer = qf.layers.QuantDense(2, **CLIPPED)
    model = keras.Sequential([layer])
    model(np.zeros((1, 3), "float32"))
    assert quantizer_of(layer.kernel) is layer.kernel_quantizer
    assert quantizers_in(model) == [BINARY, "None"]


def test_of_every_weight_of_a_layer_and_of_a_bias_that_is_not_there():
    layer = qf.layers.QuantSeparableConv1D(
        2,
        1,
        depthwise_quantizer="noop(precision=1)",
        pointwise_quantizer="noop(precision=2)",
        bias_quantizer="noop(precision=3)",
    )
    layer.build((None, 4, 3))
    assert [quantizer_of(v).precision for v in layer.trainable_variables] == [1, 2, 3]
    layer = qf.layers.QuantDense(2, use_bias=False, bias_quantizer="noop(precision=3)")
    layer.build((None, 3))
    assert quantizer_of(layer.kernel) is None


def test_of_a_model_that_is_quantized_and_stripped_after_construction():
    shared = layers.Dense(3)
    inputs = keras.Input((4, 3))
    hidden = layers.Bidirectional(layers.LSTM(3, return_sequences=True))(shared(inputs))
    hidden = layers.MultiHeadAttention(1, 2)(hidden, hidden)
    model = keras.Model(inputs, layers.Dense(3)(shared(hidden[..., :3])))
    assert set(quantizers_in(model)) == {"None"}
    settings = {"weight_quantizer": SIGN, "weight_constraint": "weight_clip"}
    qf.quantize(model, settings)
    expected = [None if "bias" in v.path else BINARY for v in model.trainable_variables]
    assert quantizers_in(model) == [str(word) for word in expected]
    copy = keras.models.clone_model(model)
    assert quantizers_in(copy) == quantizers_in(model)
    qf.strip(model)
    assert set(quantizers_in(model)) == {"None"}
    assert quantizers_in(copy) == [str(word) for word in expected]


def test_of_a_loaded_model(tmp_path):
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2), layers.Dense(2)])
    qf.quantize(model, [(qf.first, CLIPPED), (layers.Dense, None)])
    model.save(tmp_path / "m.keras")
    assert quantizers_in(qf.load_model(tmp_path / "m.keras")) == [
        BINARY,
        "None",
        "None",
        "None",
    ]


def test_follows_the_slot():
    layer = qf.layers.QuantDense(2, **CLIPPED)
    layer.build((None, 3))
    layer.quantizers["kernel"] = "noop(precision=2)"
    assert quantizer_of(layer.kernel).precision == 2
    del layer.quantizers["kernel"]
    assert quantizer_of(layer.kernel) is None
    layer.quantizers["bias"] = "noop(precision=1)"
    assert quantizer_of(layer.bias).precision == 1


def test_of_what_is_in_no_slot():
    layer = layers.Dense(2)
    layer.build((None, 3))
    for variable in (layer.kernel, keras.Variable(1.0), np.zeros(3), None):
        assert quantizer_of(variable) is None


def test_a_variable_does_not_keep_its_layer():
    layer = qf.layers.QuantDense(2, **CLIPPED)
    layer.build((None, 3))
    kernel = layer.kernel
    assert quantizer_of(kernel) is not None
    del layer
    gc.collect()
    assert quantizer_of(kernel) is None


@pytest.mark.parametrize("quantize", [True, False])
def test_within_a_quantized_scope(quantize):
    layer = qf.layers.QuantDense(2, **CLIPPED)
    layer.build((None, 3))
    with qf.context.quantized_scope(quantize):
        assert repr(quantizer_of(layer.kernel)) == BINARY
