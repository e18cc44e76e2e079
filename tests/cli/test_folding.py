"""`qframe fold`."""

import json

import keras
import numpy as np
import pytest

X = np.random.default_rng(0).normal(size=(5, 6)).astype("float32")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A model with a batch normalization, and one without; the current folder."""
    monkeypatch.chdir(tmp_path)
    norm = keras.layers.BatchNormalization(name="norm")
    parts = [keras.layers.Dense(3, use_bias=False, name="dense"), norm]
    model = keras.Sequential([keras.Input((6,)), *parts])
    norm.moving_mean.assign([1.0, 2.0, 3.0])
    model.compile("adam", "mse", jit_compile=False)
    model.save("m.keras")
    keras.Sequential([keras.Input((6,)), keras.layers.Dense(3)]).save("plain.keras")
    return tmp_path


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_fold(command, folder, options):
    before = (folder / "m.keras").read_bytes()
    result = command("fold", "m.keras", "-o", "out.keras", *options)
    assert result.exit_code == 0, result.output
    if options:
        found = json.loads(result.stdout)
        assert found["saved"] == str(folder / "out.keras")
        assert [row["settings"]["folded_into"] for row in found["rows"]] == ["dense"]
    else:
        assert "folded_into=dense" in result.output
        assert result.output.endswith(f"Saved {folder / 'out.keras'}.\n")
    assert (folder / "m.keras").read_bytes() == before
    old, new = (keras.models.load_model(folder / name) for name in ("m.keras", "out.keras"))
    assert new.compiled
    assert type(new.get_layer("norm")) is keras.layers.Identity
    expected = old.predict(X, verbose=0)
    np.testing.assert_allclose(new.predict(X, verbose=0), expected, 1e-5, 1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("plain.keras -o out.keras", "has no keras.layers.BatchNormalization to fold"),
        ("m.keras -o out.h5", "out.keras"),
        ("m.keras -o m.keras", "--force"),
        ("none.keras -o out.keras", "none.keras"),
    ],
)
def test_errors_say_what_to_type_and_write_nothing(command, folder, arguments, message):
    before = {path: path.read_bytes() for path in folder.iterdir()}
    result = command("fold", *arguments.split())
    assert result.exit_code == 1
    assert message in result.output
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
