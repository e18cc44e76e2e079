"""The column of tfmot in README.md."""

from importlib import metadata

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_model_optimization as tfmot
import tf_keras
from tf_keras import layers

from peers import comparison

cells = comparison.cells("tfmot")
quantization = tfmot.quantization.keras


def dense():
    return tf_keras.Sequential([tf_keras.Input((4,)), layers.Dense(64, name="dense")])


def public():
    modules = (quantization, quantization.quantizers, tfmot)
    return {name.lower() for m in modules for name in dir(m) if name[0] != "_"}


def test_the_version():
    assert metadata.version("tensorflow-model-optimization") == comparison.version("tfmot")
    assert cells["Keras 3"] == "no"
    assert cells["backends"] == "TensorFlow"
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    with pytest.raises(ValueError, match="can only"):
        quantization.quantize_model(model)


def test_quantize():
    model = dense()
    assert cells["quantizes an existing model"] == "as a copy"
    made = quantization.quantize_model(model)
    assert made is not model
    assert type(model.layers[0]) is layers.Dense
    assert type(made.get_layer("quant_dense")) is quantization.QuantizeWrapperV2
    assert cells["undoes it"] == "no"
    assert not [w for w in public() if w.startswith(("strip", "unquantize", "dequantize"))]


def attention():
    inputs = tf_keras.Input((4, 3))
    return tf_keras.Model(inputs, layers.MultiHeadAttention(2, 2)(inputs, inputs))


def recurrent():
    return tf_keras.Sequential([tf_keras.Input((4, 3)), layers.LSTM(2)])


def nested():
    inputs = tf_keras.Input((4,))
    return tf_keras.Model(inputs, dense()(inputs))


def subclassed():
    class Model(tf_keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(3)

        def call(self, x):
            return self.dense(x)

    model = Model()
    model(np.ones((2, 4), "float32"))
    return model


@pytest.mark.parametrize("make", [attention, recurrent, nested, subclassed])
def test_topologies(make):
    assert cells["attention, recurrent cells, nested and subclassed models"] == "no"
    with pytest.raises((RuntimeError, ValueError), match=r"not supported|can only"):
        quantization.quantize_model(make())


def test_names():
    assert cells["a quantizer of your own, by name"] == "no"
    with pytest.raises(ValueError, match="quantize_config"):
        quantization.quantize_annotate_layer(layers.Dense(3), quantize_config="mine")


def levels(bits):
    class Quantized(layers.Layer):
        def build(self, shape):
            self.quantizer = quantization.quantizers.LastValueQuantizer(
                num_bits=bits, per_axis=False, symmetric=True, narrow_range=True
            )
            self.range = self.quantizer.build(shape, "w", self)

        def call(self, x):
            return self.quantizer(x, True, weights=self.range)

    return len(np.unique(Quantized()(tf.linspace(-1.0, 1.0, 1001))))


@pytest.mark.parametrize("bits", range(2, 9))
def test_bits(bits):
    assert cells["2 to 8 bits"] == "yes"
    assert levels(bits) == 2**bits - 1
    assert cells["ternary"] == "as 2 bits"


def test_one_bit():
    assert cells["binary"] == "no"
    with pytest.raises(tf.errors.InvalidArgumentError, match="num_bits"):
        levels(1)


def test_scales_are_floats_and_bits_are_not_learned():
    assert cells["fixed point"] == "no"
    names = {n for n in dir(quantization.quantizers) if n.endswith("Quantizer")}
    ranges = {"AllValuesQuantizer", "FixedQuantizer", "LastValueQuantizer"}
    assert names == {*ranges, "MovingAverageQuantizer", "Quantizer"}
    assert cells["bit widths that are learned"] == "no"
    made = quantization.quantize_model(dense())
    assert sorted(v.name.split("/")[-1] for v in made.trainable_variables) == [
        "bias:0",
        "kernel:0",
    ]


def test_file():
    assert cells["a small file"] == "`.tflite`"
    inputs = tf_keras.Input((512,))
    model = tf_keras.Model(inputs, layers.Dense(512)(inputs))
    made = quantization.quantize_model(model)
    made(np.random.default_rng(0).normal(size=(8, 512)).astype("float32"), training=True)
    sizes = []
    for each in (model, made):
        converter = tf.lite.TFLiteConverter.from_keras_model(each)
        if each is made:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        sizes.append(len(converter.convert()))
    assert sizes[1] < 0.35 * sizes[0]


def test_reports_and_other_methods():
    assert cells["a report on each layer"] == "no"
    assert not [w for w in public() if "report" in w or "summary" in w]
    assert cells["GPTQ, AWQ"] == "no"
    assert not [w for w in public() if "gptq" in w or "awq" in w]
    assert cells["pruning, clustering"] == "yes"
    assert tfmot.sparsity.keras.prune_low_magnitude(dense())
    centroids = tfmot.clustering.keras.CentroidInitialization.LINEAR
    assert tfmot.clustering.keras.cluster_weights(
        dense(), number_of_clusters=4, cluster_centroids_init=centroids
    )
