"""`qframe export`."""

import keras
import numpy as np
import pytest

import qframe as qf

X = np.random.default_rng(0).normal(size=(4, 8)).astype("float32")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    few_bits = {
        "input_quantizer": "ste_sign",
        "kernel_quantizer": "ste_tern",
        "kernel_constraint": "weight_clip",
    }
    model = keras.Sequential([keras.Input((8,)), qf.layers.QuantDense(3, **few_bits)])
    path = tmp_path_factory.mktemp("saved") / "m.keras"
    model.save(path)
    return path


@pytest.mark.ends
def test_export(command, saved, tmp_path):
    out = tmp_path / "m.safetensors"
    arguments = ("export", str(saved), "--target", "packed", "-o", str(out))
    result = command(*arguments)
    assert result.exit_code == 0, result.output
    saved_line, sizes = result.output.splitlines()
    assert saved_line == f"Saved {out} ({out.stat().st_size} bytes)."
    # 24 ternary weights and 3 biases of 32 bits.
    assert sizes == "The weights take 108 bytes as float32, and 18 as quantized."
    expected = keras.ops.convert_to_numpy(qf.load_model(saved)(X))
    np.testing.assert_allclose(qf.packed.load(out).predict(X), expected, rtol=1e-6)
    again = command(*arguments)
    assert again.exit_code == 1
    assert "add --force" in again.output
    assert command(*arguments, "--force").exit_code == 0


def test_wrong_targets_and_paths_fail_before_a_backend_starts(
    command, saved, tmp_path, monkeypatch
):
    monkeypatch.setattr("qframe.cli.source.start_backend", None)
    out = str(tmp_path / "m.safetensors")
    for target, path, why in (
        ("paked", out, "Did you mean 'packed'"),
        ("packed(float=16)", out, "no argument 'float'. Did you mean 'floats'"),
        ("packed", str(tmp_path / "m.onnx"), "does not end in .safetensors"),
    ):
        result = command("export", str(saved), "-t", target, "-o", path)
        assert result.exit_code == 1
        assert why in result.output
    assert list(tmp_path.iterdir()) == []


def test_list_and_show(command):
    listed = command("list", "--kind", "exporter")
    assert "packed:packed   exporter" in listed.output
    shown = command("show", "packed")
    assert shown.exit_code == 0, shown.output
    assert "packed(floats='float32')" in shown.output
