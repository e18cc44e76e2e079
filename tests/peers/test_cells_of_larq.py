"""The column of Larq in README.md, in a separate process: see below."""

import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

# Before TensorFlow, which reads it when it is imported.
os.environ["TF_USE_LEGACY_KERAS"] = "1"

import larq
import numpy as np
import tensorflow as tf

from peers import comparison

cells = comparison.cells("Larq")
NUMBERS = np.linspace(-2, 2, 4001).astype("float32")
MODULES = (larq, larq.layers, larq.models, larq.quantizers, larq.utils)
NAMES = {name.lower() for module in MODULES for name in dir(module) if name[0] != "_"}


def dense():
    sign = {"kernel_quantizer": "ste_sign", "kernel_constraint": "weight_clip"}
    return tf.keras.Sequential([tf.keras.Input((4,)), larq.layers.QuantDense(3, **sign)])


def levels(quantizer):
    return np.unique(quantizer(tf.constant(NUMBERS)))


def test_the_version():
    assert metadata.version("larq") == comparison.version("Larq")
    assert cells["backends"] == "TensorFlow"
    assert cells["Keras 3"] == "no"
    environment = {k: v for k, v in os.environ.items() if k != "TF_USE_LEGACY_KERAS"}
    command = [sys.executable, "-c", "import larq"]
    done = subprocess.run(command, env=environment, capture_output=True, check=False)
    assert done.returncode
    assert b"has no attribute" in done.stderr


def test_there_is_no_word_for_a_model():
    """Quantized layers are written as such, in models of any kind."""
    assert cells["quantizes an existing model"] == cells["undoes it"] == "no"
    starts = ("quantize_", "convert", "from_", "strip")
    assert not [word for word in NAMES if word.startswith(starts)]
    assert cells["attention, recurrent cells, nested and subclassed models"] == "by hand"

    class Subclassed(tf.keras.Model):
        def __init__(self):
            super().__init__()
            self.inner = dense()

        def call(self, x):
            return self.inner(x)

    assert Subclassed()(np.ones((2, 4), "float32")).shape == (2, 3)


def test_names():
    assert cells["a quantizer of your own, by name"] == "yes"

    @larq.utils.register_keras_custom_object
    class Mine(larq.quantizers.Quantizer):
        precision = 2

        def call(self, x):
            return tf.round(x)

    layer = larq.layers.QuantDense(3, kernel_quantizer="Mine")
    assert isinstance(layer.kernel_quantizer, Mine)


def test_quantizers():
    assert cells["binary"] == cells["ternary"] == "yes"
    np.testing.assert_array_equal(levels(larq.quantizers.SteSign()), [-1, 1])
    np.testing.assert_array_equal(levels(larq.quantizers.SteTern()), [-1, 0, 1])
    assert cells["2 to 8 bits"] == "yes"
    for bits in range(2, 9):
        quantizer = larq.quantizers.DoReFa(k_bit=bits, mode="activations")
        assert len(levels(quantizer)) == 2**bits


def test_missing_features():
    assert cells["fixed point"] == "no"
    assert {
        name
        for name, value in vars(larq.quantizers).items()
        if isinstance(value, type)
        and issubclass(value, larq.quantizers.Quantizer)
        and name[0] != "_"
    } == {
        "ApproxSign",
        "DoReFa",
        "DoReFaQuantizer",
        "MagnitudeAwareSign",
        "NoOp",
        "NoOpQuantizer",
        "Quantizer",
        "SteHeaviside",
        "SteSign",
        "SteTern",
        "SwishSign",
    }
    assert cells["bit widths that are learned"] == "no"
    names = [v.name.partition("/")[2] for v in dense().trainable_variables]
    assert names == ["kernel:0", "bias:0"]
    assert cells["GPTQ, AWQ"] == cells["pruning, clustering"] == "no"
    for word in ("gptq", "awq", "prun", "cluster"):
        assert not [w for w in NAMES if word in w]


def test_report():
    assert cells["a report on each layer"] == "table"
    lines = []
    larq.models.summary(dense(), print_fn=lines.append)
    assert "1-bit" in "".join(lines)


def test_the_summary_is_that_of_qframe():
    """To the character; how often an activation multiplies is unknown there, and 0 here."""
    layers = tf.keras.layers
    kernel = {
        "kernel_quantizer": "ste_sign",
        "kernel_constraint": "weight_clip",
        "use_bias": False,
    }
    binary = {**kernel, "input_quantizer": "ste_sign"}
    model = tf.keras.Sequential(
        [
            tf.keras.Input((28, 28, 1)),
            larq.layers.QuantConv2D(32, 3, name="conv", **kernel),
            layers.MaxPooling2D(name="pool"),
            layers.BatchNormalization(scale=False, name="norm"),
            larq.layers.QuantConv2D(64, 3, name="conv_1", **binary),
            layers.MaxPooling2D(name="pool_1"),
            layers.BatchNormalization(scale=False, name="norm_1"),
            larq.layers.QuantConv2D(64, 3, name="conv_2", **binary),
            layers.BatchNormalization(scale=False, name="norm_2"),
            layers.Flatten(name="flatten"),
            larq.layers.QuantDense(64, name="dense", **binary),
            layers.BatchNormalization(scale=False, name="norm_3"),
            larq.layers.QuantDense(10, name="dense_1", **binary),
            layers.BatchNormalization(scale=False, name="norm_4"),
            layers.Activation("softmax", name="softmax"),
        ],
        name="tutorial",
    )
    printed = []
    larq.models.summary(model, print_fn=printed.append)
    ours = Path(__file__).parents[1] / "models" / "tutorial.txt"
    assert "\n".join(printed).replace("?", "0").strip() == ours.read_text().strip()
