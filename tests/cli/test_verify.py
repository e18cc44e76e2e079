"""`qframe verify`."""

import json

import keras
import numpy as np
import pytest

import qframe as qf

X = np.random.default_rng(0).integers(-8, 8, (20, 6)).astype("float32")
SETTINGS = {
    "input_quantizer": "ste_sign",
    "kernel_quantizer": "ste_sign",
    "kernel_constraint": "weight_clip",
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A model, another one, a file and data; the current folder."""
    monkeypatch.chdir(tmp_path)
    keras.utils.set_random_seed(0)
    layers = [qf.layers.QuantDense(4, name=name, **SETTINGS) for name in ("a", "b")]
    model = keras.Sequential([keras.Input((6,)), *layers])
    model.save("m.keras")
    qf.export(model, "m.safetensors", target="packed")
    np.savez("data.npz", x=X, y=model.predict(X, verbose=0).argmax(-1))
    model.get_layer("b").bias.assign([0.5, 0, 0, 0])
    model.save("other.keras")
    return tmp_path


@pytest.mark.ends
def test_verify(command, folder):
    arguments = ("m.safetensors", "--data", "data.npz")
    result = command("verify", "m.keras", *arguments, "--equal", "1", "--same-class", "1")
    assert result.exit_code == 0, result.output
    assert "packed file, 20 examples" in result.output
    assert "All 3 edges that both have are equal" in result.output
    result = command("verify", "other.keras", *arguments, "--edge-examples", "0")
    assert result.exit_code == 0, result.output
    assert "No edges were compared. The outputs differ." in result.output
    result = command("verify", "other.keras", *arguments, "--equal", "0.8")
    assert result.exit_code == 1
    assert "Error: the file does not agree with the model: equal is 0.75" in result.output
    assert "They first differ at 'b', in 20 of 80 numbers" in result.output
    # Numbers that are no shares are wrong usage.
    assert command("verify", "m.keras", *arguments, "--equal", "99").exit_code == 2


def test_verify_as_json_prints_the_figures_also_below_a_share(command, folder):
    arguments = ("m.safetensors", "--data", "data.npz", "-t", "packed", "--json")
    result = command("verify", "other.keras", *arguments, "--equal", "1")
    assert result.exit_code == 1
    # Before click 8.2 the error is behind it.
    actual, _ = json.JSONDecoder().raw_decode(result.stdout)
    assert actual["equal"] == 0.75
    assert actual["accuracy_file"] == 1
    assert actual["first_difference"] == "b"


def test_wrong_arguments_fail_before_a_backend_starts(command, folder, monkeypatch):
    monkeypatch.setattr("qframe.cli.source.start_backend", None)
    (folder / "m.bin").write_bytes(b"")
    for model, file, data, target, why in (
        ("absent.keras", "m.safetensors", "data.npz", (), "absent.keras does not exist"),
        ("m.keras", "absent.safetensors", "data.npz", (), "does not exist"),
        ("m.keras", "m.bin", "data.npz", (), "no runtime is known for m.bin"),
        ("m.keras", "m.safetensors", "m.npz", (), "m.npz does not exist"),
        ("m.keras", "m.safetensors", "data.npz", ("-t", "paked"), "Did you mean 'packed'"),
    ):
        result = command("verify", model, file, "--data", data, *target)
        assert result.exit_code == 1
        assert why in result.output
        assert "unexpected" not in result.output
