"""Bits of weights and activations."""

import keras
import numpy as np
import pytest
from keras import layers

import qframe as qf

CLIP = {"kernel_constraint": "weight_clip"}


def noop(bits):
    return qf.quantizers.NoOp(precision=bits)


def input_bits_after(*between, probe=None):
    """The input bits that a layer without input quantizer gets after these layers."""
    probe = probe or layers.Dense(2, name="probe")
    model = keras.Sequential([keras.Input((4, 4, 2)), *between, probe])
    return qf.models.profile(model).layers[-1].input_precision


@pytest.mark.parametrize(
    "producer",
    [
        lambda: layers.Activation(noop(3)),
        lambda: noop(3),
        lambda: layers.Dense(4, activation=noop(3)),
        lambda: qf.layers.QuantDense(4, output_quantizer=noop(3)),
        lambda: qf.layers.QuantConv2D(4, 3, activation="relu", output_quantizer=noop(3)),
    ],
)
def test_quantizer_as_activation(producer):
    assert input_bits_after(producer()) == 3


KEEP = [
    layers.Flatten,
    lambda: layers.Reshape((8, 4)),
    lambda: layers.Permute((2, 1, 3)),
    lambda: layers.MaxPooling2D(2),
    layers.GlobalMaxPooling2D,
    lambda: layers.Cropping2D(1),
    lambda: layers.UpSampling2D(2),
    lambda: layers.Dropout(0.5),
    lambda: layers.SpatialDropout2D(0.5),
    lambda: layers.GaussianNoise(0.5),
    layers.Identity,
    lambda: layers.Activation("linear"),
]


@pytest.mark.parametrize("layer", KEEP)
def test_layers_that_keep_the_grid(layer):
    assert input_bits_after(layers.Activation(noop(2)), layer()) == 2


def test_repeat_vector_keeps_the_grid():
    flat = layers.GlobalMaxPooling2D()
    assert input_bits_after(layers.Activation(noop(2)), flat, layers.RepeatVector(2)) == 2


END = [
    lambda: layers.BatchNormalization(),
    lambda: layers.AveragePooling2D(2),
    lambda: layers.GlobalAveragePooling2D(),
    lambda: layers.ZeroPadding2D(),
    lambda: layers.UpSampling2D(2, interpolation="bilinear"),
    lambda: layers.Activation("relu"),
    lambda: layers.Dense(3),
]


@pytest.mark.parametrize("layer", END)
def test_layers_that_end_the_grid(layer):
    assert input_bits_after(layers.Activation(noop(2)), layer()) is None


def merged(merge, *quantizers):
    inputs = [keras.Input((4,)) for _ in quantizers]
    branches = [q(x) if q else x for q, x in zip(quantizers, inputs, strict=True)]
    output = layers.Dense(2)(merge(branches))
    return qf.models.profile(keras.Model(inputs, output)).layers[-1].input_precision


def test_concatenation_has_the_bits_of_its_widest_input():
    assert merged(layers.Concatenate(), noop(2), noop(5)) == 5
    assert merged(layers.Concatenate(), noop(2), None) is None


def test_sum_ends_the_grid():
    assert merged(layers.Add(), noop(2), noop(2)) is None


def test_own_input_quantizer_wins():
    probe = qf.layers.QuantDense(2, input_quantizer=noop(7))
    assert input_bits_after(layers.Activation(noop(2)), probe=probe) == 7


def test_into_and_out_of_a_nested_model():
    inner = keras.Sequential(
        [keras.Input((4,)), layers.Dense(4, name="inside"), layers.Activation(noop(3))],
        name="inner",
    )
    model = keras.Sequential([keras.Input((4,)), noop(2), inner, layers.Dense(2)])
    actual = {p.name: p.input_precision for p in qf.models.profile(model).layers}
    assert actual["inner/inside"] == 2
    assert qf.models.profile(model).layers[-1].input_precision == 3


def test_through_time_distributed():
    model = keras.Sequential(
        [
            keras.Input((3, 4)),
            noop(2),
            layers.TimeDistributed(layers.Dense(4, activation=noop(5)), name="each"),
            layers.LSTM(2, name="lstm"),
        ]
    )
    bits = [p.input_precision for p in qf.models.profile(model).layers]
    assert bits[1:] == [2, 5]


def test_calls_that_differ():
    inputs = keras.Input((4,))
    shared = qf.layers.QuantDense(4, kernel_quantizer=noop(1))
    model = keras.Model(inputs, shared(noop(1)(shared(inputs))))
    profile = qf.models.profile(model)
    actual = next(p for p in profile.layers if p.kind == "QuantDense")
    assert actual.input_precision == "-, 1"
    assert {m.precision: m.count for m in actual.macs} == {1: 16, 32: 16}


def test_attention_has_the_bits_of_its_projections():
    inputs = keras.Input((3, 4))
    quantized = noop(2)(inputs)
    output = layers.MultiHeadAttention(1, 4)(quantized, quantized)
    assert qf.models.profile(keras.Model(inputs, output)).layers[-1].input_precision == 2


def test_input_quantizer_without_precision():
    layer = qf.layers.QuantDense(
        2, input_quantizer=keras.ops.tanh, kernel_quantizer=noop(1), use_bias=False
    )
    profile = qf.models.profile(keras.Sequential([keras.Input((4,)), layer]))
    assert profile.layers[0].input_precision == "?"
    assert profile.mac_precisions == [32]


# Weights.


def weight_bits(layer, shape=(4,)):
    model = keras.Sequential([keras.Input(shape), layer])
    return {w.name: w.bits for w in qf.models.profile(model).layers[0].weights}


def test_slots():
    layer = qf.layers.QuantDense(
        2, kernel_quantizer=noop(3), bias_quantizer=noop(8), output_quantizer=noop(1)
    )
    assert weight_bits(layer) == {"kernel": 3, "bias": 8}


def test_weight_quantizer_without_precision_keeps_the_bits_of_the_dtype():
    layer = qf.layers.QuantDense(2, kernel_quantizer=keras.ops.tanh, dtype="float16")
    assert weight_bits(layer) == {"kernel": 16, "bias": 16}
    relu = qf.layers.QuantDense(2, kernel_quantizer=keras.layers.ReLU())
    assert weight_bits(relu) == {"kernel": 32, "bias": 32}


def test_dtypes():
    assert weight_bits(layers.Dense(2, dtype="bfloat16"))["kernel"] == 16
    assert weight_bits(layers.Dense(2, dtype="mixed_float16"))["kernel"] == 32


class Scaled(qf.quantizers.Quantizer):
    """A quantizer with a learned scale."""

    precision = 4

    def build(self, input_shape):
        self.scale = self.add_weight(shape=(2,), name="scale", initializer="ones")

    def call(self, inputs):
        return inputs * self.scale[0]


def test_state_of_quantizers():
    layer = qf.layers.QuantDense(2, kernel_quantizer=Scaled(), use_bias=False)
    assert weight_bits(layer) == {"kernel": 4, "scale": 32}


def test_state_of_a_quantizer_in_an_activation():
    model = keras.Sequential(
        [keras.Input((4,)), layers.Dense(4), layers.Activation(Scaled(), name="scaled")]
    )
    # Newer Keras builds it when it is called on data only.
    profile = qf.models.profile(model)
    assert profile.parameter_count() in (None, 20 + 2)
    assert profile.mac_count() == 16
    model(np.zeros((1, 4), "float32"))
    assert qf.models.profile(model).parameter_count() == 20 + 2


def test_weights_of_layers_within_a_layer():
    inputs = keras.Input((3, 4))
    attention = layers.MultiHeadAttention(1, 4, use_bias=False)
    attention(inputs, inputs)
    projection = qf.layers.QuantEinsumDense(
        "abc,cde->abde", (None, 1, 4), kernel_quantizer=noop(2), name="query"
    )
    projection.build((None, 3, 4))
    attention._tracker.unlock()
    attention._query_dense = projection
    model = keras.Model(inputs, attention(inputs, inputs))
    actual = qf.models.profile(model)
    assert actual.parameter_count(2) == 16
    assert actual.parameter_count() == model.count_params()


@pytest.mark.parametrize("scale", [True, False])
@pytest.mark.parametrize("center", [True, False])
def test_batch_normalization_is_fused(scale, center):
    layer = layers.BatchNormalization(scale=scale, center=center)
    model = keras.Sequential([keras.Input((4,)), layer])
    actual = qf.models.profile(model).layers[0]
    assert [w.name for w in actual.weights] == ["moving_mean", "moving_variance"]
    assert actual.parameter_count(trainable=False) == 8


def test_other_normalizations_are_not():
    assert len(weight_bits(layers.LayerNormalization())) == 2


@pytest.mark.parametrize("set_later", [True, False])
def test_frozen_layers(set_later):
    layer = layers.Dense(2, trainable=set_later)
    model = keras.Sequential([keras.Input((4,)), layer])
    layer.trainable = False
    profile = qf.models.profile(model)
    assert profile.parameter_count(trainable=False) == 10
    assert profile.parameter_count(trainable=True) == 0


def test_eight_bit_size_keeps_what_is_smaller():
    layer = qf.layers.QuantDense(2, kernel_quantizer=noop(3))
    model = keras.Sequential([keras.Input((4,)), layer])
    layer_profile = qf.models.profile(model).layers[0]
    assert layer_profile.memory == 8 * 3 + 2 * 32
    assert layer_profile.memory_within(8) == 8 * 3 + 2 * 8
