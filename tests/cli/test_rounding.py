"""`qframe round`, and the forms of data without labels."""

import json

import keras
import numpy as np
import pytest

import qframe as qf

X = np.random.default_rng(0).normal(size=(12, 6)).astype("float32")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A model with quantized weights, one in float, and data in each form."""
    monkeypatch.chdir(tmp_path)
    keras.utils.set_random_seed(0)
    parts = [keras.layers.Dense(n, name=f"dense{n}") for n in (4, 3)]
    model = keras.Sequential([keras.Input((6,)), *parts])
    model.save("float.keras")
    qf.quantize(model, {"kernel_quantizer": "integer(bits=3)"})
    model.save("m.keras")
    np.savez("data.npz", x=X)
    np.save("data.npy", X)
    (tmp_path / "examples").mkdir()
    for number, example in enumerate(X):
        np.save(f"examples/{number:02}.npy", example)
    (tmp_path / "empty").mkdir()
    (tmp_path / "mixed").mkdir()
    np.save("mixed/a.npy", X[0])
    np.save("mixed/b.npy", X[0, :3])
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        ("--data data.npz", {}),
        ("--data data.npy --method nearest", {"method": "nearest"}),
        ("--data examples --keep-biases", {"correct_biases": False}),
        ("--data data.npy --method gptq(damping=0.1)", {"damping": 0.1}),
    ],
)
def test_round(command, folder, arguments, options):
    result = command("round", "m.keras", "-o", "out.keras", *arguments.split())
    assert result.exit_code == 0, result.output
    assert "2 of 2 weights rounded" in result.output
    assert result.output.endswith(f"Saved {folder / 'out.keras'}.\n")
    model = qf.load_model("m.keras")
    qf.round_weights(model, X, verbose=0, **options)
    expected = model.predict(X, verbose=0)
    rounded = qf.load_model("out.keras")
    np.testing.assert_array_equal(rounded.predict(X, verbose=0), expected)


def test_round_as_json(command, folder):
    result = command("round", "m.keras", "--data", "data.npz", "-o", "out.keras", "--json")
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)["rows"]
    assert [row["path"] for row in rows] == ["dense4", "dense3"]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ("float.keras --data data.npz -o out.keras", "no weight of"),
        ("m.keras --data data.npz -o out.keras --method gptp", "unknown rounder 'gptp'"),
        ("m.keras --data data.npz -o m.keras", "--force"),
        ("m.keras --data none.npz -o out.keras", "none.npz"),
        ("m.keras --data empty -o out.keras", "no .npy files"),
        ("m.keras --data mixed -o out.keras", "all of one shape and dtype"),
        ("m.keras -o out.keras", "--data"),
    ],
)
def test_round_with_wrong_arguments_writes_nothing(command, folder, arguments, text):
    before = (folder / "m.keras").read_bytes()
    result = command("round", *arguments.split())
    assert result.exit_code
    assert text in result.output
    assert not (folder / "out.keras").exists()
    assert (folder / "m.keras").read_bytes() == before
