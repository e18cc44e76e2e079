"""`qframe quantize` and `qframe plan`."""

import json
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest

import qframe as qf
from qframe.testing import fresh_process

X = np.random.default_rng(0).normal(size=(4, 8)).astype("float32")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The file of a model that was trained a little."""
    dense = [keras.layers.Dense(4, name="a"), keras.layers.Dense(2, name="b")]
    model = keras.Sequential([keras.Input((8,)), *dense])
    model.compile("adam", "mse", jit_compile=False)
    model.fit(X, np.ones((4, 2)), verbose=0)
    path = tmp_path_factory.mktemp("trained") / "m.keras"
    model.save(path)
    return path


@pytest.fixture
def saved(trained, tmp_path):
    """A copy of it."""
    return Path(shutil.copy(trained, tmp_path))


def predict(model):
    return keras.ops.convert_to_numpy(model(X))


def state(model):
    return [keras.ops.convert_to_numpy(v) for v in model.optimizer.variables]


def test_quantize(command, saved, tmp_path):
    before = saved.read_bytes()
    out = tmp_path / "q.keras"
    result = command("quantize", str(saved), "--recipe", "bnn", "-o", str(out))
    assert result.exit_code == 0, result.output
    assert "2 of 2 layers quantized" in result.output
    assert result.output.endswith(f"Saved {out}.\n")
    assert saved.read_bytes() == before
    loaded, expected = qf.load_model(out), qf.load_model(saved)
    qf.quantize(expected, "bnn")
    np.testing.assert_array_equal(predict(loaded), predict(expected))
    assert loaded.compiled
    assert len(state(loaded)) == len(state(expected)) > 4
    for here, there in zip(state(loaded), state(expected), strict=True):
        np.testing.assert_array_equal(here, there)
    assert any(np.any(value) for value in state(loaded)[2:])


def test_quantize_with_data_calibrates(command, saved, tmp_path):
    np.save(tmp_path / "x.npy", X)
    out, data = tmp_path / "q.keras", ["--data", str(tmp_path / "x.npy")]
    result = command("quantize", str(saved), "-r", "int8", "-o", str(out), *data)
    assert result.exit_code == 0, result.output
    assert "layers quantized" in result.output
    assert " calibrated" in result.output
    loaded, expected = qf.load_model(out), qf.load_model(saved)
    qf.quantize(expected, "int8")
    qf.calibrate(expected, X, verbose=0)
    np.testing.assert_array_equal(predict(loaded), predict(expected))


def test_quantize_with_data_and_no_range_writes_nothing(command, saved, tmp_path):
    np.save(tmp_path / "x.npy", X)
    out, data = tmp_path / "q.keras", ["--data", str(tmp_path / "x.npy")]
    result = command("quantize", str(saved), "-r", "bnn", "-o", str(out), *data)
    assert result.exit_code == 1
    assert "no quantizer with a range" in result.output
    assert not out.exists()


def test_a_recipe_in_a_file(command, saved, tmp_path):
    path = saved
    recipe = tmp_path / "r.toml"
    recipe.write_text("[[rule]]\nposition = 'last'\nkernel_quantizer = 'ste_sign'\n")
    result = command("plan", str(path), "-r", str(recipe), "--json")
    assert result.exit_code == 0, result.output
    settings = {row["path"]: row["settings"] for row in json.loads(result.output)["rows"]}
    sign = "binary:ste_sign(clip_value=1.0)"
    assert settings == {"a": {}, "b": {"kernel_quantizer": sign}}


def test_note_is_printed_once(command, tmp_path):
    dense = [keras.layers.Dense(4, "relu", name="a"), keras.layers.Dense(2, name="b")]
    path = tmp_path / "m.keras"
    keras.Sequential([keras.Input((8,)), *dense]).save(path)
    (note,) = json.loads(command("plan", str(path), "-r", "bnn", "--json").output)["notes"]
    assert note.startswith("'b' quantizes what 'a' returns, which is never negative")
    out = tmp_path / "q.keras"
    for arguments in (
        ("plan", str(path), "-r", "bnn"),
        ("quantize", str(path), "-r", "bnn", "-o", str(out)),
        ("summary", str(out)),
        ("summary", str(out), "--no-macs"),
    ):
        result = command(*arguments)
        assert result.exit_code == 0, result.output
        assert " ".join(result.output.split()).count(note) == 1
        assert "Warning" not in result.output


def test_plan_writes_nothing(command, saved):
    path = saved
    before = path.read_bytes()
    result = command("plan", str(path), "-r", "bnn")
    assert result.exit_code == 0
    assert "kernel_quantizer=binary:ste_sign" in result.output
    assert [p.name for p in path.parent.iterdir()] == ["m.keras"]
    assert path.read_bytes() == before


WRONG = [
    ("absent.keras", "-r bnn", "-o q.keras", "absent.keras does not exist"),
    ("wrong.toml", "-r bnn", "-o q.keras", "wrong.toml does not end in .keras"),
    ("m.keras", "-r bnm", "-o q.keras", "or 'bnn'?"),
    ("m.keras", "-r bnn(clip=1)", "-o q.keras", "bnn has no argument 'clip'"),
    ("m.keras", "-r absent.toml", "-o q.keras", "absent.toml does not exist"),
    ("m.keras", "-r wrong.toml", "-o q.keras", "wrong.toml: rule 1: a rule has no 'layer'"),
    ("m.keras", "-r typo.toml", "-o q.keras", "Did you mean 'ste_sign'"),
    ("m.keras", "-r bnn", "-o q.h5", "does not end in .keras"),
    ("m.keras", "-r bnn", "-o m.keras", "m.keras exists; name another file"),
    ("m.keras", "-r bnn", "-o absent/q.keras", "does not exist; make it first"),
]


@pytest.fixture
def folder(saved, monkeypatch):
    """A folder with a model and recipes to go wrong with; it must stay as it is."""
    folder = saved.parent
    monkeypatch.chdir(folder)
    for name, text in {
        "wrong": "[[rule]]\nlayer = 'Dense'",
        "typo": "[[rule]]\nkernel_quantizer = 'ste_sing'",
        "none": "[[rule]]\nlayers = 'Conv2D'\nskip = true",
        "argument": "[[rule]]\nkernel_quantizer = 'ste_sign(clip_value=-1)'",
    }.items():
        (folder / f"{name}.toml").write_text(text)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    yield folder
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize(("model", "recipe", "output", "message"), WRONG)
def test_wrong_arguments_are_said_before_a_backend_starts(
    command, folder, monkeypatch, model, recipe, output, message
):
    def start_backend():
        raise AssertionError("the backend was started")

    monkeypatch.setattr("qframe.cli.source.start_backend", start_backend)
    result = command("quantize", model, *recipe.split(), *output.split())
    assert result.exit_code == 1
    assert message in result.output
    if "-o q.keras" in output:
        assert message in command("plan", model, *recipe.split()).output


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ("none.toml", "matches no layer"),
        ("argument.toml", "clip_value of SteSign must be a positive number"),
    ],
)
def test_failure_after_loading_writes_nothing(command, folder, recipe, message):
    result = command("quantize", "m.keras", "-r", recipe, "-o", "m.keras", "--force")
    assert result.exit_code == 1
    assert message in result.output


def test_a_model_that_cannot_be_written(command, folder, monkeypatch):
    def save(model, path):
        path.write_text("half of it")
        raise OSError("disk full")

    monkeypatch.setattr(keras.Model, "save", save)
    result = command("quantize", "m.keras", "-r", "bnn", "-o", "m.keras", "--force")
    assert result.exit_code == 1
    assert "m.keras cannot be written: disk full" in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["quantize", "m.keras", "-o", "q.keras"], "Missing option '-r' / '--recipe'"),
        (["quantize", "m.keras", "-r", "bnn"], "Missing option '-o' / '--output'"),
        (["plan", "-r", "bnn"], "Missing argument 'MODEL'"),
    ],
)
def test_wrong_usage(command, arguments, message):
    result = command(*arguments)
    assert result.exit_code == 2
    assert message in result.output


def test_force_replaces_the_file(command, saved):
    path = saved
    result = command("quantize", str(path), "-r", "bwn", "-o", str(path), "--force")
    assert result.exit_code == 0, result.output
    assert qf.load_model(path).get_layer("a").quantizers["kernel"].precision == 1


@keras.saving.register_keras_serializable("mine")
class Scale(keras.layers.Layer):
    def build(self, shape):
        self.w = self.add_weight(name="w", shape=shape[-1:])

    def call(self, x):
        return x * self.w


def test_strict(command, tmp_path):
    dense = [keras.layers.Dense(4), Scale(name="own"), keras.layers.Dense(2)]
    keras.Sequential([keras.Input((8,)), *dense]).save(tmp_path / "m.keras")
    arguments = ("plan", str(tmp_path / "m.keras"), "-r", "bnn")
    assert "its weights are not known" in command(*arguments).output
    result = command(*arguments, "--strict")
    assert result.exit_code == 1
    assert "'own' is a Scale, of which qframe does not know the weights" in result.output


def _loss(y_true, y_pred):
    return keras.ops.mean(y_true - y_pred)


def test_a_loss_that_is_not_there(command, saved, tmp_path):
    model = qf.load_model(saved)
    model.compile("adam", keras.saving.register_keras_serializable("gone")(_loss))
    model.save(saved)
    keras.saving.get_custom_objects().pop("gone>_loss")
    out = tmp_path / "q.keras"
    arguments = ("quantize", str(saved), "-r", "bnn", "-o", str(out))
    result = command(*arguments)
    assert result.exit_code == 1
    assert "_loss" in result.output
    assert "add --no-compile" in result.output
    result = command("fold", arguments[1], "-o", str(tmp_path / "folded.keras"))
    assert "--no-compile" not in result.output
    assert "compile=False).save(" in result.output
    assert not out.exists()
    result = command(*arguments, "--no-compile")
    assert result.exit_code == 0, result.output
    assert not qf.load_model(out).compiled


@pytest.mark.long
def test_in_processes_of_their_own(process, saved, tmp_path):
    done = process("quantize", str(saved), "-r", "bnn", "-o", "q.keras")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "\x1b" not in done.stdout
    expected = qf.load_model(saved)
    qf.quantize(expected, "bnn")
    np.testing.assert_array_equal(
        fresh_process.predict(tmp_path / "q.keras", X), expected.predict(X, verbose=0)
    )
