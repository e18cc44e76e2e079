"""The template, installed as a stranger's plugin is: found, used, saved, loaded, missed."""

import doctest
import importlib

import keras
import numpy as np
import pytest

import qframe as qf

NAMES = ["template:ChannelMix", "template:stepped_tanh", "template:unit_max"]
LOAD = """
import sys
import numpy as np
import qframe as qf

model = qf.load_model(sys.argv[1])
np.savez(sys.argv[1] + ".npz", *model.get_weights(), y=model(np.load(sys.argv[1] + ".npy")))
print([repr(layer.quantizers) for layer in model.layers])
"""


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A model that is quantized with all that the template has, in a file, and an input."""
    from qframe_template.layers import ChannelMix

    layers = [ChannelMix(name="mix"), keras.layers.Dense(3, name="dense")]
    model = keras.Sequential([keras.Input((5,)), *layers])
    rule = {"weight_quantizer": "stepped_tanh(steps=2)", "weight_constraint": "unit_max"}
    report = qf.quantize(model, rule)
    assert [row.path for row in report.quantized] == ["mix", "dense"]
    rng = np.random.default_rng(0)
    model.compile("adam", "mse")
    model.fit(rng.normal(size=(64, 5)), rng.normal(size=(64, 3)), epochs=2, verbose=0)
    path = tmp_path_factory.mktemp("saved") / "m.keras"
    model.save(path)
    np.save(f"{path}.npy", rng.normal(size=(7, 5)).astype("float32"))
    return path, model


def test_it_is_listed_where_it_is_installed_and_only_there(process):
    listed = process("-m", "qframe", "list")
    assert listed.returncode == 0
    assert [name for name in NAMES if name in listed.stdout] == NAMES
    without = process("-m", "qframe", "list", path=())
    assert without.returncode == 0
    assert "binary:ste_sign" in without.stdout
    assert "template:" not in without.stdout


def test_the_model_computes_what_the_formulas_say(saved):
    path, model = saved
    x = np.load(f"{path}.npy")
    for layer in model.layers:
        kernel, *bias = (keras.ops.convert_to_numpy(w) for w in layer.weights)
        assert np.abs(kernel).max() <= 1
        # Away from ties, where NumPy's tanh and rounding decide as ours do.
        steps = 2 * np.tanh(kernel)
        assert (np.abs(steps % 1 - 0.5) > 1e-4).all()
        x = x @ (np.round(steps) / 2) + sum(bias)
    actual = keras.ops.convert_to_numpy(model(np.load(f"{path}.npy")))
    np.testing.assert_allclose(actual, x, rtol=1e-5, atol=1e-6)
    integers = qf.integers(model)
    assert {key for key in integers if "bias" not in key} == {"mix/matrix", "dense/kernel"}
    assert set(integers["mix/matrix"].values.ravel()) <= {-2, -1, 0, 1, 2}


def test_a_fresh_process_loads_the_model_to_the_bit(process, saved):
    path, model = saved
    loaded = process("-c", LOAD, path)
    assert loaded.returncode == 0, loaded.stderr
    assert loaded.stdout.count("template:stepped_tanh(steps=2)") == 2
    with np.load(f"{path}.npz") as actual:
        for index, weight in enumerate(model.get_weights()):
            np.testing.assert_array_equal(actual[f"arr_{index}"], weight)
        y = keras.ops.convert_to_numpy(model(np.load(f"{path}.npy")))
        np.testing.assert_array_equal(actual["y"], y)


def test_without_the_plugin_the_error_says_what_to_install(process, saved):
    loaded = process("-c", LOAD, saved[0], path=())
    assert loaded.returncode == 1
    message = "this model needs the plugin 'template', which is not installed."
    assert f"{message} Write: pip install qframe-plugin-template" in loaded.stderr


def test_a_disabled_plugin_is_told_apart(process, saved):
    loaded = process("-c", LOAD, saved[0], QFRAME_DISABLE_PLUGINS="template")
    assert loaded.returncode == 1
    message = "this model needs the plugin 'template', which is disabled."
    assert f"{message} Write:" in loaded.stderr


@pytest.mark.parametrize("name", ["constraints", "layers", "quantizers"])
def test_the_examples_run(name):
    result = doctest.testmod(importlib.import_module(f"qframe_template.{name}"))
    assert result.attempted
    assert not result.failed
