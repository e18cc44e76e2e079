"""The column of Keras's own `quantize` in README.md."""

import keras
import numpy as np
import pytest
from keras import layers

from peers import comparison

cells = comparison.cells("Keras")
pytestmark = pytest.mark.filterwarnings("ignore:Layer .* does not have a `quantize` method")


def dense():
    return keras.Sequential([keras.Input((4,)), layers.Dense(64)])


def kernel(layer):
    return keras.backend.standardize_dtype(layer.kernel.dtype)


def quantized(*inner, shape=(4, 4)):
    model = keras.Sequential([keras.Input(shape), *inner])
    model.quantize("int8")
    return model


def test_the_version():
    assert keras.__version__.startswith(comparison.version("Keras") + ".")
    assert cells["Keras 3"] == "yes"


def test_quantize():
    model = dense()
    before = model.layers[0]
    assert cells["quantizes an existing model"] == "in place"
    assert model.quantize("int8") is None
    assert model.layers[0] is before
    assert kernel(before) == "int8"
    assert cells["undoes it"] == "no"
    with pytest.raises(ValueError, match="already quantized"):
        model.quantize("int8")
    assert not [
        n for n in dir(model) if n.startswith(("dequantize", "unquantize", "strip"))
    ]


def test_topologies():
    assert cells["attention, recurrent cells, nested and subclassed models"] == "in part"
    inputs = keras.Input((4, 3))
    attention = layers.MultiHeadAttention(2, 2)
    keras.Model(inputs, attention(inputs, inputs)).quantize("int8")
    assert kernel(attention.query_dense) == "int8"
    inner = dense()
    quantized(inner, shape=(4,))
    assert kernel(inner.layers[0]) == "int8"
    assert kernel(quantized(layers.LSTM(2)).layers[0].cell) == "float32"
    assert kernel(quantized(layers.Conv1D(2, 2)).layers[0]) == "float32"


def test_an_attention_layer_does_not_come_back(tmp_path):
    """Of what the cell of topologies calls a part."""
    inputs = keras.Input((4, 3))
    model = keras.Model(inputs, layers.MultiHeadAttention(2, 2)(inputs, inputs))
    model.quantize("int8")
    model.save(tmp_path / "m.keras")
    with pytest.raises(ValueError, match="could not be loaded"):
        keras.models.load_model(tmp_path / "m.keras")


@pytest.mark.parametrize("mode", ["int8", "int4"])
def test_bits(mode):
    assert cells["2 to 8 bits"] == "4 and 8"
    model = dense()
    latent = np.array(keras.ops.convert_to_numpy(model.layers[0].kernel))
    model.quantize(mode)
    eye = np.eye(4, dtype="float32")
    values = keras.ops.convert_to_numpy(model(eye))
    assert 0 < np.abs(values - latent).max() < {"int8": 0.02, "int4": 0.2}[mode]


def test_modes():
    """There are these, which are neither signs nor fixed point, and none can be added."""
    with pytest.raises(ValueError, match="Invalid quantization mode") as error:
        dense().quantize("mine")
    for mode in ("int8", "float8", "int4", "gptq", "awq"):
        assert repr(mode) in str(error.value)
    assert str(error.value).count("', '") == 4
    assert cells["a quantizer of your own, by name"] == "no"
    assert cells["binary"] == cells["ternary"] == cells["fixed point"] == "no"
    assert cells["GPTQ, AWQ"] == "yes"
    assert keras.quantizers.GPTQConfig
    assert keras.quantizers.AWQConfig


def test_nothing_is_learned():
    assert cells["bit widths that are learned"] == "no"
    model = dense()
    model.quantize("int8")
    assert [v.name for v in model.trainable_variables] == ["bias"]


def test_file(tmp_path):
    assert cells["a small file"] == "`.keras`"
    model = keras.Sequential([keras.Input((512,)), layers.Dense(512)])
    model.save(tmp_path / "float.keras")
    model.quantize("int8")
    model.save(tmp_path / "int8.keras")
    sizes = [(tmp_path / f"{name}.keras").stat().st_size for name in ("float", "int8")]
    assert sizes[1] < 0.35 * sizes[0]


def test_there_is_no_report_and_no_pruning():
    names = {
        name.lower() for module in (keras, keras.utils, keras.Model) for name in dir(module)
    }
    assert cells["a report on each layer"] == "no"
    assert not [w for w in names if "report" in w]
    text = []
    model = dense()
    model.quantize("int8")
    model.summary(print_fn=text.append)
    assert "int8" not in "".join(text)
    assert cells["pruning, clustering"] == "no"
    assert not [w for w in names if "prun" in w or "cluster" in w]
