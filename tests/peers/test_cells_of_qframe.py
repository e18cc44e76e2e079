"""The column of qframe in README.md, as briefly as the others.

The whole suite is about it; this tests the cells of the table.
"""

import configparser

import keras
import numpy as np
import pytest
from keras import layers

import qframe as qf
from peers import comparison
from qframe.registry.discovery import registry

cells = comparison.cells("qframe")
NUMBERS = np.linspace(-2, 2, 4001).astype("float32")[:, None]
FOUR = {"weight_quantizer": "integer(bits=4)"}


def model(layer, *others, shape=(4,)):
    inputs = keras.Input(shape)
    return keras.Model(inputs, layer(inputs, *(inputs for _ in others)))


def levels(text):
    quantizer = qf.quantizers.get(text)
    return np.unique(keras.ops.convert_to_numpy(quantizer(NUMBERS)))


def test_backends():
    assert cells["Keras 3"] == "yes"
    assert issubclass(qf.layers.QuantDense, keras.layers.Layer)
    assert cells["backends"] == "TensorFlow, JAX, PyTorch"
    settings = configparser.ConfigParser(interpolation=None)
    settings.read(comparison.ROOT / "tox.ini", "utf-8")
    for name in ("py312-jax", "py311-torch", "tests"):
        assert "ci" in settings[f"testenv:{name}"]["labels"]


def test_quantize_and_back():
    before = model(layers.Dense(3, name="dense"))
    dense = before.get_layer("dense")
    kernel = keras.ops.convert_to_numpy(dense.kernel)
    assert cells["quantizes an existing model"] == "in place"
    assert [row.path for row in qf.quantize(before, FOUR).quantized] == ["dense"]
    assert before.get_layer("dense") is dense
    assert cells["undoes it"] == "yes"
    qf.strip(before)
    assert type(dense) is layers.Dense
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(dense.kernel), kernel)


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(3)

    def call(self, x):
        return self.dense(x)


def subclassed():
    made = Subclassed()
    made(np.ones((2, 4), "float32"))
    return made


@pytest.mark.parametrize(
    "make",
    [
        lambda: model(layers.MultiHeadAttention(2, 2), 1, shape=(4, 3)),
        lambda: model(layers.LSTM(2), shape=(4, 3)),
        lambda: model(model(layers.Dense(3))),
        subclassed,
    ],
    ids=["attention", "recurrent", "nested", "subclassed"],
)
def test_topologies(make):
    assert cells["attention, recurrent cells, nested and subclassed models"] == "yes"
    assert qf.quantize(make(), FOUR).quantized


def test_a_layer_of_ones_own():
    class Own(layers.Layer):
        def build(self, shape):
            self.w = self.add_weight(name="w", shape=(shape[-1], 2))

        def call(self, x):
            return keras.ops.matmul(x, self.w)

    assert cells["a layer class of your own"] == "one line"
    qf.register_layer(Own, kernel="w")
    assert qf.quantize(model(Own()), FOUR).quantized


def test_names():
    from qframe.registry.discovery import registry

    assert cells["a quantizer of your own, by name"] == "yes"
    try:

        @qf.register(name="mine")
        class Mine(qf.quantizers.Quantizer):
            def value(self, inputs):
                return keras.ops.round(inputs)

            def gradient(self, inputs):
                return keras.ops.ones_like(inputs)

        assert isinstance(qf.quantizers.get("mine"), Mine)
    finally:
        registry.forget_local()


def test_quantizers():
    assert cells["binary"] == cells["ternary"] == "yes"
    np.testing.assert_array_equal(levels("ste_sign"), [-1, 1])
    np.testing.assert_array_equal(levels("ste_tern"), [-1, 0, 1])
    assert cells["2 to 8 bits"] == cells["fixed point"] == "yes"
    for bits in range(2, 9):
        actual = levels(f"quantized_bits({bits},0,1)")
        assert len(actual) == 2**bits - 1
        np.testing.assert_array_equal(actual * 2 ** (bits - 1) % 1, 0)


def test_file(tmp_path):
    assert cells["a small file"] == "`.safetensors`, `.tflite`"
    sign = {"kernel_quantizer": "ste_sign", "kernel_constraint": "weight_clip"}
    made = model(layers.Dense(512), shape=(512,))
    qf.quantize(made, {**sign, "input_quantizer": "ste_sign"})
    path = tmp_path / "m.safetensors"
    qf.export(made, path, target="packed")
    assert path.stat().st_size < 512 * 512 / 8 * 1.3
    # tests/plugins/packed runs such files, and tests/benchmarks measures it.
    assert cells["runs fast on"] == "CPUs"


def test_report():
    assert cells["a report on each layer"] == "page and table"
    made = model(layers.Dense(3, name="dense"))
    qf.quantize(made, FOUR)
    assert "dense" in qf.report(made).html
    assert "dense" in str(qf.models.profile(made))


def test_rounding_after_training():
    assert cells["GPTQ, AWQ"] == "yes"
    parts = layers.Dense(5, "relu"), layers.Dense(3)
    made = keras.Sequential([keras.Input((4,)), *parts])
    x = np.random.default_rng(0).normal(size=(40, 4)) * [1, 9, 1, 1]
    assert qf.equalize(made, x, "awq", verbose=0).equalized
    qf.quantize(made, FOUR)
    assert len(qf.round_weights(made, x, "gptq", verbose=0).rounded) == 2


def test_missing_features():
    quantizers = [c.name for c in registry.components("quantizer")]
    names = [name.lower() for name in [*qf.__all__, *quantizers]]
    assert cells["pruning, clustering"] == "no"
    for word in ("prun", "cluster"):
        assert not [w for w in names if word in w]
    assert cells["bit widths that are learned"] == "no"
    layer = qf.layers.QuantDense(3, kernel_quantizer="lsq")
    layer.build((None, 4))
    assert {v.name for v in layer.trainable_variables} == {"kernel", "bias", "step"}
