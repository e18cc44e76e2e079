"""`qframe report` and `qframe compare`."""

import json

import keras
import numpy as np
import pytest

import qframe as qf

RNG = np.random.default_rng(0)
X = RNG.normal(size=(20, 6)).astype("float32")
SETTINGS = {"kernel_quantizer": "ste_sign", "kernel_constraint": "weight_clip"}


def model():
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(4, name="a"), keras.layers.Dense(3, name="b")]
    return keras.Sequential([keras.Input((6,)), *layers], name="small")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Models and data; the current folder."""
    monkeypatch.chdir(tmp_path)
    made = model()
    made.save("float.keras")
    labels = made.predict(X, verbose=0).argmax(-1)
    qf.quantize(made, [(qf.last, SETTINGS)])
    made.save("quantized.keras")
    np.savez("data.npz", x_test=X, y_test=labels)
    np.savez("unlabelled.npz", x=X)
    return tmp_path


def test_report(command, folder):
    result = command("report", "quantized.keras", "--data", "data.npz", "-o", "r.html")
    assert result.exit_code == 0, result.output
    worst, saved = result.output.splitlines()[-2:]
    assert worst.startswith("The worst layer is b: ")
    assert saved == f"Saved {folder / 'r.html'}."
    expected = qf.report(qf.load_model("quantized.keras"), X, verbose=0)
    assert (folder / "r.html").read_text("utf-8") == expected.html


def test_report_without_data(command, folder):
    result = command("report", "float.keras", "-o", "r.html")
    assert result.exit_code == 0, result.output
    assert "need data" in (folder / "r.html").read_text("utf-8")
    again = command("report", "float.keras", "-o", "r.html")
    assert again.exit_code == 1
    assert "r.html exists; name another file, or add --force" in again.output
    assert command("report", "float.keras", "-o", "r.html", "--force").exit_code == 0


def test_compare(command, folder):
    names = "float.keras", "quantized.keras"
    result = command("compare", *names, "--data", "data.npz")
    assert result.exit_code == 0, result.output
    assert "100.00 %" in result.output
    assert "They part at 'b', the first layer that returns others." in result.output
    as_json = command("compare", *names, "--data", "data.npz", "--json")
    actual = json.loads(as_json.stdout)
    assert actual["first_divergence"] == "b"
    assert [layer["path"] for layer in actual["layers"]] == ["a", "b"]
    one, other = actual["models"]
    assert one["accuracy"] == 1
    assert one["memory_bits"] - other["memory_bits"] == 31 * 12


def test_compare_without_labels(command, folder):
    names = "float.keras", "quantized.keras"
    result = command("compare", *names, "--data", "unlabelled.npz", "--json")
    assert json.loads(result.stdout)["models"][0]["accuracy"] is None


BAD_DATA = {
    "absent.npz": (None, "absent.npz does not exist"),
    "data.npy": (None, "does not exist"),
    "empty.npz": ({}, "no array x or x_test; it has none. Write for example: numpy.savez("),
    "names.npz": ({"images": X}, "no array x or x_test; it has images"),
    "none.npz": ({"x": X[:0]}, "x of none.npz is empty"),
    "short.npz": ({"x": X, "y": X[:3, 0]}, "20 examples in x and 3 labels in y"),
    "objects.npz": ({"x": np.array([{}])}, "cannot be read"),
}


@pytest.mark.parametrize("name", BAD_DATA)
def test_bad_data_is_said_before_a_backend_starts(command, folder, monkeypatch, name):
    def start_backend():
        raise AssertionError("the backend was started")

    monkeypatch.setattr("qframe.cli.source.start_backend", start_backend)
    arrays, message = BAD_DATA[name]
    if arrays is not None:
        np.savez(name, **arrays)
    for arguments in (
        ("report", "quantized.keras", "--data", name, "-o", "r.html"),
        ("compare", "float.keras", "quantized.keras", "--data", name),
    ):
        result = command(*arguments)
        assert result.exit_code == 1
        assert message in result.output
        assert "unexpected" not in result.output
    assert not (folder / "r.html").exists()


def test_failure_after_loading_writes_nothing(command, folder):
    np.savez("other.npz", x=X[:, :5])
    for data, source, message in (
        ("other.npz", "quantized.keras", "data has the shape (20, 5)"),
        ("data.npz", "float.keras", "has no quantized layer"),
    ):
        result = command("report", source, "--data", data, "-o", "r.html")
        assert result.exit_code == 1
        assert message in result.output
        assert "unexpected" not in result.output
    assert not list(folder.glob("*.html"))
