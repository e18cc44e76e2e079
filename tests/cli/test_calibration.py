"""`qframe calibrate`."""

import json

import keras
import numpy as np
import pytest

import qframe as qf

X = np.random.default_rng(0).normal(size=(50, 6)).astype("float32")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A model without ranges, and data; the current folder."""
    monkeypatch.chdir(tmp_path)
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(3, name="dense")])
    model.compile("adam", "mse", jit_compile=False)
    model.save("float.keras")
    qf.quantize(model, "integer_inference")
    model.save("m.keras")
    np.savez("data.npz", x_train=X[:3], x=X)
    return tmp_path


def ranges(path):
    quantizer = qf.load_model(path).get_layer("dense").input_quantizer
    return [keras.ops.convert_to_numpy(v).reshape(-1).tolist() for v in quantizer.variables]


ARGUMENTS = ["calibrate", "m.keras", "--data", "data.npz", "-o", "out.keras"]


@pytest.mark.parametrize("options", [[], ["--method", "percentile", "--percentile", "90"]])
def test_calibrate(command, folder, options):
    before = (folder / "m.keras").read_bytes()
    result = command(*ARGUMENTS, *options)
    assert result.exit_code == 0, result.output
    assert "dense" in result.output
    assert result.output.endswith(f"Saved {folder / 'out.keras'}.\n")
    assert (folder / "m.keras").read_bytes() == before
    expected = qf.load_model("m.keras")
    method = {"method": "percentile", "percentile": 90} if options else {}
    qf.calibrate(expected, X, verbose=0, **method)
    expected.save("expected.keras")
    assert ranges("out.keras") == ranges("expected.keras") != ranges("m.keras")
    assert qf.load_model("out.keras").compiled


def test_calibrate_as_json(command, folder):
    result = command(*ARGUMENTS, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["saved"] == str(folder / "out.keras")
    assert [row["path"] for row in found["rows"]] == ["dense"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("float.keras --data data.npz -o out.keras", "has no quantizer with a range"),
        ("m.keras --data data.npz -o out.keras --method minmex", "did you mean 'minmax'"),
        ("m.keras --data data.npz -o out.keras --percentile 90", "no option 'percentile'"),
        ("m.keras --data data.npz -o out.h5", "out.keras"),
        ("m.keras --data data.npz -o m.keras", "--force"),
        ("m.keras --data none.npz -o out.keras", "none.npz"),
    ],
)
def test_errors_say_what_to_type_and_write_nothing(command, folder, arguments, message):
    before = {path: path.read_bytes() for path in folder.iterdir()}
    result = command("calibrate", *arguments.split())
    assert result.exit_code == 1
    assert message.lower() in result.output.lower()
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
