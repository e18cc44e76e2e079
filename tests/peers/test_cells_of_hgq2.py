"""The column of HGQ2 in README.md."""

from importlib import metadata

import hgq
import keras
import numpy as np
import pytest
from hgq.layers import QDense
from hgq.quantizer import Quantizer, QuantizerConfig
from hgq.quantizer.config import all_quantizer_types

from peers import comparison

cells = comparison.cells("HGQ2")
NUMBERS = np.linspace(-2, 2, 4001).astype("float32")


def public():
    modules = (hgq, hgq.utils, hgq.layers, hgq.quantizer)
    return {name for module in modules for name in dir(module) if name[0] != "_"}


def test_the_version():
    assert metadata.version("hgq2") == comparison.version("HGQ2")
    assert cells["Keras 3"] == "yes"
    assert issubclass(QDense, keras.layers.Layer)


def test_there_is_no_word_for_a_model():
    """Quantized layers are written as such, in models of any kind."""
    assert cells["quantizes an existing model"] == cells["undoes it"] == "no"
    names = [name.lower() for name in public()]
    assert not [
        w for w in names if w.startswith(("quantize_", "convert", "from_", "strip"))
    ]
    assert cells["attention, recurrent cells, nested and subclassed models"] == "by hand"
    assert {"QMultiHeadAttention", "QGRU", "QDense"} <= public()

    class Subclassed(keras.Model):
        def __init__(self):
            super().__init__()
            self.inner = keras.Sequential([keras.Input((4,)), QDense(3)])

        def call(self, x):
            return self.inner(x)

    assert Subclassed()(np.ones((2, 4), "float32")).shape == (2, 3)


def test_quantizers():
    assert all_quantizer_types() == {"kbi", "kif", "float"}
    assert cells["a quantizer of your own, by name"] == "no"
    with pytest.raises(AssertionError, match="mine"):
        QuantizerConfig("mine", "weight")
    # A sign has no zero; these have, whatever their bits, and small floats too.
    assert cells["binary"] == "no"
    for kind in ("kbi", "kif"):
        zero = Quantizer(QuantizerConfig(kind, "weight"))(np.zeros((2, 2), "float32"))
        assert not np.any(keras.ops.convert_to_numpy(zero))


@pytest.mark.parametrize("bits", range(2, 9))
def test_bits(bits):
    assert cells["2 to 8 bits"] == cells["fixed point"] == "yes"
    config = QuantizerConfig("kif", "weight", k0=1, i0=0, f0=bits - 1, trainable=False)
    values = keras.ops.convert_to_numpy(Quantizer(config)(NUMBERS))
    assert len(np.unique(values)) == 2**bits - 1  # so of two bits -1, 0 and 1
    assert cells["ternary"] == "as 2 bits"
    np.testing.assert_array_equal(values * 2 ** (bits - 1) % 1, 0)


def test_bit_widths_are_learned():
    assert cells["bit widths that are learned"] == "yes"
    model = keras.Sequential([keras.Input((4,)), QDense(3, beta0=1e-2)])
    widths = [v for v in model.trainable_variables if v.path.endswith("/b")]
    before = [np.copy(keras.ops.convert_to_numpy(v)) for v in widths]
    model.compile("sgd", "mse")
    x = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")
    model.fit(x, x[:, :3], verbose=0)
    after = [keras.ops.convert_to_numpy(v) for v in widths]
    assert len(before) == 2
    for old, new in zip(before, after, strict=True):
        assert (old != new).any()


def test_missing_features():
    names = [name.lower() for name in public()]
    assert cells["a small file"] == "no"
    assert not [w for w in names if "export" in w or "save" in w]
    assert cells["GPTQ, AWQ"] == "no"
    assert not [w for w in names if "gptq" in w or "awq" in w]


def test_layers_know_their_cost():
    assert cells["a report on each layer"] == "bit operations"
    assert not [n for n in public() if "report" in n.lower() or "summary" in n.lower()]
    layer = QDense(3)
    layer(np.ones((2, 4), "float32"), training=True)
    assert int(layer.ebops) > 0


def test_pruning():
    assert cells["pruning, clustering"] == "weights of 0 bits"
    config = QuantizerConfig("kbi", "weight", k0=1, b0=0, i0=0, trainable=False)
    assert not np.any(keras.ops.convert_to_numpy(Quantizer(config)(NUMBERS)))
