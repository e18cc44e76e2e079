"""`qframe summary`."""

import zipfile

import keras
import pytest

import qframe as qf


@pytest.fixture
def model():
    layer = qf.layers.QuantDense(
        4, kernel_quantizer="ste_sign", kernel_constraint="weight_clip"
    )
    return keras.Sequential([keras.Input((8,)), layer])


def test_summary(command, model, tmp_path):
    model.save(tmp_path / "m.keras")
    result = command("summary", str(tmp_path / "m.keras"))
    assert result.exit_code == 0
    assert "quant_dense" in result.output


def test_summary_without_macs(command, model, tmp_path):
    model.save(tmp_path / "m.keras")
    result = command("summary", str(tmp_path / "m.keras"), "--no-macs")
    assert result.exit_code == 0
    assert "quant_dense" in result.output
    assert "MAC" not in result.output


def test_summary_of_a_compiled_model(command, model, tmp_path):
    # A loss that only its author has must not be needed.
    model.compile("adam", keras.saving.register_keras_serializable("mine")(_loss))
    model.save(tmp_path / "m.keras")
    keras.saving.get_custom_objects().pop("mine>_loss")
    assert command("summary", str(tmp_path / "m.keras")).exit_code == 0


def _loss(y_true, y_pred):
    return keras.ops.mean(y_true - y_pred)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("absent.keras", None, "does not exist"),
        ("model.pb", b"", "does not end in .keras or .h5 or .hdf5"),
        ("empty.h5", b"", "is damaged, or not a model in HDF5"),
        ("text.hdf5", b"not a model", "is damaged"),
        ("folder.h5", "folder", "is not a file"),
        ("empty.keras", b"", "is damaged, or not a .keras file"),
        ("text.keras", b"not a model", "is damaged"),
        ("folder.keras", "folder", "is not a file"),
        ("zip.keras", "zip", "cannot be loaded"),
        ("truncated.keras", "truncated", "is damaged"),
    ],
)
def test_bad_files(command, model, tmp_path, name, content, message):
    path = tmp_path / name
    if content == "folder":
        path.mkdir()
    elif content == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("readme.txt", "hello")
    elif content == "truncated":
        model.save(path)
        path.write_bytes(path.read_bytes()[:-200])
    elif content is not None:
        path.write_bytes(content)
    result = command("summary", str(path))
    assert result.exit_code == 1
    assert name in result.output
    assert message in result.output
    assert "unexpected" not in result.output


PLUGIN = """
import keras
import qframe
from qframe.registry.components import quantizer

@qframe.hookimpl
def qframe_components():
    yield quantizer("halve", "away_quantizers:Halve")
"""

QUANTIZER = """
import qframe as qf

class Halve(qf.quantizers.Quantizer):
    def value(self, inputs):
        return inputs / 2

    def gradient(self, inputs):
        return inputs * 0 + 0.5
"""


def test_missing_plugin(command, install, tmp_path, monkeypatch):
    folder = install("away", PLUGIN)
    with open(f"{folder}/away_quantizers.py", "w") as file:
        file.write(QUANTIZER)
    layers = [keras.Input((8,)), qf.layers.QuantDense(4, kernel_quantizer="away:halve")]
    keras.Sequential(layers).save(tmp_path / "m.keras")
    assert command("summary", str(tmp_path / "m.keras")).exit_code == 0
    monkeypatch.setenv("QFRAME_DISABLE_PLUGINS", "away")
    qf.registry.discovery.registry.reset()
    result = command("summary", str(tmp_path / "m.keras"))
    assert result.exit_code == 1
    assert "needs the plugin 'away'" in result.output
    assert "pip install away-plugin" in result.output
