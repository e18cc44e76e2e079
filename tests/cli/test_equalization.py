"""`qframe equalize`."""

import json

import keras
import numpy as np
import pytest

import qframe as qf

X = np.random.default_rng(0).normal(size=(5, 6)).astype("float32")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A model, one of a single layer, and data; the current folder."""
    monkeypatch.chdir(tmp_path)
    keras.utils.set_random_seed(0)
    norm = keras.layers.LayerNormalization(name="norm")
    parts = [keras.layers.Dense(n, name=f"dense{n}", activation="relu") for n in (4, 3)]
    model = keras.Sequential([keras.Input((6,)), norm, *parts])
    norm.gamma.assign([0.1, 0.2, 1, 1, 5, 10])
    model.compile("adam", "mse", jit_compile=False)
    model.save("m.keras")
    keras.Sequential([keras.Input((6,)), keras.layers.Dense(3)]).save("plain.keras")
    np.savez("data.npz", x=X)
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        ("", {}),
        ("--method smoothquant --alpha 0.8", {"method": "smoothquant", "alpha": 0.8}),
        (
            "--method awq --bits 3 --group-size 2",
            {"method": "awq", "bits": 3, "group_size": 2},
        ),
    ],
)
def test_equalize(command, folder, arguments, options):
    before = (folder / "m.keras").read_bytes()
    data = ["--data", "data.npz"] if options else []
    result = command("equalize", "m.keras", "-o", "out.keras", *data, *arguments.split())
    assert result.exit_code == 0, result.output
    assert "layers equalized" in result.output
    assert result.output.endswith(f"Saved {folder / 'out.keras'}.\n")
    assert (folder / "m.keras").read_bytes() == before
    old, new = (keras.models.load_model(folder / name) for name in ("m.keras", "out.keras"))
    assert new.compiled
    expected = old.predict(X, verbose=0)
    np.testing.assert_allclose(new.predict(X, verbose=0), expected, 1e-5, 1e-5)
    qf.equalize(old, X if options else None, verbose=0, **options)
    for a, b in zip(new.get_weights(), old.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_equalize_as_json(command, folder):
    result = command("equalize", "m.keras", "-o", "out.keras", "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["saved"] == str(folder / "out.keras")
    assert [row["path"] for row in found["rows"]] == ["dense4", "dense3"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("plain.keras -o out.keras", "no layer of 'sequential"),
        ("m.keras -o out.keras --method awq", "needs data"),
        ("m.keras -o out.keras --data data.npz", "takes no data"),
        ("m.keras -o out.keras --method cl", "Did you mean 'cle'"),
        ("m.keras -o out.keras --bits 3", "has no option 'bits'"),
        ("m.keras -o out.keras --data none.npz", "none.npz"),
        ("m.keras -o out.h5", "out.keras"),
        ("m.keras -o m.keras", "--force"),
        ("none.keras -o out.keras", "none.keras"),
    ],
)
def test_errors_say_what_to_type_and_write_nothing(command, folder, arguments, message):
    before = {path: path.read_bytes() for path in folder.iterdir()}
    result = command("equalize", *arguments.split())
    assert result.exit_code == 1
    assert message in result.output
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
