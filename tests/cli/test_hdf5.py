"""Models in HDF5, as most public files of Keras are, wherever a command takes a model."""

import json
import re

import h5py
import keras
import numpy as np
import pytest

import qframe as qf

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    layers = [keras.layers.Dense(4, name="a"), keras.layers.Dense(2, name="b")]
    model = keras.Sequential([keras.Input((6,)), *layers])
    model.compile("sgd", keras.losses.MeanSquaredError())
    for name in ("m.h5", "m.hdf5", "m.keras"):
        model.save(name)
    model.save_weights("m.weights.h5")
    np.savez("data.npz", x=np.eye(6, dtype="float32"))
    return tmp_path


@pytest.mark.parametrize("suffix", [".h5", ".hdf5"])
@pytest.mark.parametrize(
    "arguments",
    [
        "summary {}",
        "plan {} -r bnn",
        "quantize {} -r bnn -o out.keras",
        "report {} -o out.html",
        "export {} -t packed -o out.safetensors",
        "compare {} {} --data data.npz",
    ],
)
def test_command_takes_hdf5_as_it_takes_keras(command, folder, arguments, suffix):
    actual = [
        command(*arguments.format(f"m{s}", f"m{s}").split()) for s in (suffix, ".keras")
    ]
    if "-o" in arguments:
        actual[1] = command(*arguments.format("m.keras", "m.keras").split(), "--force")
    assert [result.exit_code for result in actual] == [0, 0], actual[0].output
    sizes = [re.sub(r"\d+ bytes", "", result.output) for result in actual]
    assert sizes[0] == sizes[1]


def test_quantize_of_hdf5_keeps_weights_and_the_compilation(command, folder):
    result = command("quantize", "m.h5", "-r", "bnn", "-o", "q.keras")
    assert result.exit_code == 0, result.output
    before, after = keras.saving.load_model("m.h5"), qf.load_model("q.keras")
    assert type(after.loss) is keras.losses.MeanSquaredError
    for one, other in zip(before.get_weights(), after.get_weights(), strict=True):
        np.testing.assert_array_equal(one, np.clip(other, -1, 1))


def test_summary_of_quantized_hdf5_sees_the_quantizers(command, folder):
    model = qf.load_model("m.keras")
    qf.quantize(model, {"kernel_quantizer": "ste_sign"})
    model.save("q.h5")
    bits = json.loads(command("summary", "q.h5", "--json").stdout)["parameters_by_bits"]
    assert bits["1"] == 6 * 4 + 4 * 2


def test_summary_of_hdf5_with_weights_alone_says_what_to_do(command, folder):
    result = command("summary", "m.weights.h5")
    assert result.exit_code == 1
    assert "holds weights, and no model" in result.output
    assert "model.load_weights(" in result.output


def keras_3(function):
    return {"class_name": "Lambda", "config": {"name": "f", "function": function}}


@pytest.mark.parametrize(
    "layer",
    [
        keras_3({"class_name": "__lambda__", "config": {"code": "4wAA"}}),
        {
            "class_name": "Lambda",
            "config": {"function": ["4wAA", None, None], "function_type": "lambda"},
        },
    ],
    ids=["keras 3", "keras 2"],
)
def test_summary_of_hdf5_with_code_is_refused_before_keras_reads_it(
    command, folder, monkeypatch, layer
):
    with h5py.File("m.h5", "r+") as file:
        config = json.loads(file.attrs["model_config"])
        config["config"]["layers"].append(layer)
        file.attrs["model_config"] = json.dumps(config)
    monkeypatch.setattr("qframe.load_model", None, raising=False)
    result = command("summary", "m.h5")
    assert result.exit_code == 1
    assert "holds Python code, the function of a Lambda layer" in result.output


@pytest.mark.parametrize("config", ["{", "[" * 100_000, b"\xff", 3], ids=range(4))
def test_summary_of_hdf5_with_a_damaged_config_is_one_message(command, folder, config):
    with h5py.File("m.h5", "r+") as file:
        del file.attrs["model_config"]
        file.attrs["model_config"] = (
            config if len(str(config)) < 60_000 else config[:60_000]
        )
    result = command("summary", "m.h5")
    assert result.exit_code == 1
    assert "is damaged, or not a model in HDF5" in result.output
