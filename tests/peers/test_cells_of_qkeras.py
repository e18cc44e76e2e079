"""The column of QKeras, as `qkeras-v3`, in README.md."""

import re
from importlib import metadata

import keras
import numpy as np
import pytest
import qkeras
from keras import layers
from qkeras.utils import model_quantize

from peers import comparison

cells = comparison.cells("QKeras")
NUMBERS = np.linspace(-2, 2, 4001).astype("float32")
SETTINGS = {"kernel_quantizer": "quantized_bits(4,0,1)"}
CONFIG = {"QDense": SETTINGS, "QConv2D": SETTINGS}


def kinds(model):
    return [type(layer).__name__ for layer in model.layers]


def model(layer, *others, shape=(4,)):
    inputs = keras.Input(shape)
    return keras.Model(inputs, layer(inputs, *(inputs for _ in others)))


def levels(text):
    quantizer = qkeras.get_quantizer(text)
    return np.unique(keras.ops.convert_to_numpy(quantizer(NUMBERS)))


def public():
    return {name.lower() for m in (qkeras, qkeras.utils) for name in dir(m)}


def test_the_version():
    assert metadata.version("qkeras-v3") == comparison.version("QKeras")
    assert cells["Keras 3"] == "yes"
    assert issubclass(qkeras.QDense, keras.layers.Layer)


def test_quantize():
    before = model(layers.Dense(3))
    assert cells["quantizes an existing model"] == "as a copy"
    made = model_quantize(before, CONFIG, 4)
    assert made is not before
    assert kinds(before)[1] == "Dense"
    assert kinds(made)[1] == "QDense"
    assert cells["undoes it"] == "no"
    assert not [w for w in public() if w.startswith(("strip", "unquantize", "dequantize"))]


def test_topologies():
    """Layers within another layer stay as they are, without a warning."""
    assert cells["attention, recurrent cells, nested and subclassed models"] == "no"
    nested = model_quantize(model(model(layers.Dense(3))), CONFIG, 4)
    assert kinds(nested.layers[1])[1] == "Dense"
    attention = model(layers.MultiHeadAttention(2, 2), 1, shape=(4, 3))
    assert kinds(model_quantize(attention, CONFIG, 4))[1] == "MultiHeadAttention"

    class Subclassed(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(3)

        def call(self, x):
            return self.dense(x)

    subclassed = Subclassed()
    subclassed(np.ones((2, 4), "float32"))
    with pytest.raises(KeyError):
        model_quantize(subclassed, CONFIG, 4)


def test_a_layer_of_ones_own():
    assert cells["a layer class of your own"] == "no"

    class Own(layers.Layer):
        def build(self, shape):
            self.kernel = self.add_weight(name="kernel", shape=(shape[-1], 2))

        def call(self, x):
            return keras.ops.matmul(x, self.kernel)

    config = {"QOwn": SETTINGS, "Own": SETTINGS}
    made = model_quantize(model(Own()), config, 4, custom_objects={"Own": Own})
    assert kinds(made)[1] == "Own"
    assert not hasattr(made.layers[1], "kernel_quantizer")


def test_names():
    assert cells["a quantizer of your own, by name"] == "no"

    class Mine(qkeras.base_quantizer.BaseQuantizer):
        def __call__(self, x):
            return x

    with keras.saving.custom_object_scope({"Mine": Mine}):
        for name in ("Mine", "Mine()"):
            with pytest.raises(ValueError, match="Could not interpret"):
                qkeras.QDense(2, kernel_quantizer=name)


def test_quantizers():
    assert cells["binary"] == cells["ternary"] == "yes"
    np.testing.assert_array_equal(levels("binary(alpha=1)"), [-1, 1])
    np.testing.assert_array_equal(levels("ternary(alpha=1)"), [-1, 0, 1])
    assert cells["2 to 8 bits"] == cells["fixed point"] == "yes"
    for bits in range(2, 9):
        actual = levels(f"quantized_bits({bits},0,1,alpha=1)")
        assert len(actual) == 2**bits - 1
        np.testing.assert_array_equal(actual * 2 ** (bits - 1) % 1, 0)


def test_nothing_is_learned():
    assert cells["bit widths that are learned"] == "no"
    layer = qkeras.QDense(3, kernel_quantizer="quantized_bits(4,0,1)")
    layer.build((None, 4))
    assert {v.name for v in layer.trainable_variables} == {"kernel", "bias"}


def test_report(capsys):
    assert cells["a report on each layer"] == "table"
    qkeras.print_qstats(model_quantize(model(layers.Dense(3, name="head")), CONFIG, 4))
    assert re.search(r"^ *head .*smult_4", capsys.readouterr().out, re.MULTILINE)


def test_missing_features():
    assert cells["a small file"] == "no"
    assert not [w for w in public() if "export" in w or "tflite" in w]
    assert cells["GPTQ, AWQ"] == cells["pruning, clustering"] == "no"
    for word in ("gptq", "awq", "prune_", "cluster"):
        assert not [w for w in public() if word in w]
