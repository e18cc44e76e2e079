"""`qframe sensitivity` and `qframe allocate`."""

import json

import keras
import numpy as np
import pytest

import qframe as qf
from in_few_bits import two_layers

QUANTIZER = "integer(granularity='channel')"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A model, and examples with labels and without; the current folder."""
    monkeypatch.chdir(tmp_path)
    two_layers().save("m.keras")
    x = np.random.default_rng(0).normal(size=(64, 5)).astype("float32")
    np.savez("x.npz", x=x)
    np.savez("labelled.npz", x=x, y=np.arange(64) % 3)
    return tmp_path


def contents(folder):
    return {path: path.read_bytes() for path in folder.iterdir()}


def measure(command, *options):
    arguments = ("--data", "x.npz", "--bits", "2,4,8", "--quantizer", QUANTIZER)
    return command("sensitivity", "m.keras", *arguments, *options)


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_sensitivity_prints_a_table_and_saves_it(command, folder, options):
    before = (folder / "m.keras").read_bytes()
    result = measure(command, "-o", "t.json", *options)
    assert result.exit_code == 0, result.output
    saved = json.loads((folder / "t.json").read_text("utf-8"))
    assert [row["path"] for row in saved["rows"]] == ["one", "two"]
    if options:
        assert json.loads(result.stdout) == {**saved, "saved": str(folder / "t.json")}
    else:
        assert "2 bits" in result.output
        assert result.output.endswith(f"Saved {folder / 't.json'}.\n")
    assert (folder / "m.keras").read_bytes() == before


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_allocate_writes_a_recipe_that_quantize_takes(command, folder, options):
    pytest.importorskip("scipy", reason="the extra ptq is not installed")
    measure(command, "-o", "t.json")
    arguments = ("--table", "t.json", "--average", "4", "--fix", "last=4", *options)
    result = command("allocate", "m.keras", *arguments, "-o", "r.toml")
    assert result.exit_code == 0, result.output
    if options:
        found = json.loads(result.stdout)
        assert found["saved"] == str(folder / "r.toml")
        assert "bits a number" in found["title"]
    assert command("quantize", "m.keras", "-r", "r.toml", "-o", "q.keras").exit_code == 0
    model = qf.load_model("q.keras")
    assert [layer.kernel_quantizer.bits for layer in model.layers] == [4, 4]


def test_allocate_without_a_budget_prints_the_front(command, folder):
    pytest.importorskip("scipy", reason="the extra ptq is not installed")
    options = ("--data", "x.npz", "--bits", "2,8", "--quantizer", QUANTIZER, "--json")
    result = command("allocate", "m.keras", *options)
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["cost"] == "size"
    assert found["points"][0]["bits"] == {"one": 2, "two": 2}
    assert found["points"][-1]["bits"] == {"one": 8, "two": 8}


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ("sensitivity m.keras --data x.npz --metric kll", 1, "Did you mean 'kl'"),
        ("sensitivity m.keras --data x.npz --metric loss", 1, "has none"),
        ("sensitivity m.keras --data x.npz --bits 2,a", 2, "is not a list of bits"),
        ("sensitivity m.keras --data x.npz -o t.toml", 1, ".json"),
        ("sensitivity m.keras --data none.npz", 1, "none.npz"),
        ("sensitivity m.keras --data x.npz --quantizer intger", 1, "Did you mean"),
        ("allocate m.keras --size 10", 2, "write --table"),
        ("allocate m.keras --size 10 --bops 3 --data x.npz", 2, "write one of"),
        ("allocate m.keras --data x.npz -o r.toml", 2, "a recipe has a budget"),
        ("allocate m.keras --data x.npz --fix first --size 9", 1, "--fix takes LAYER=BITS"),
        ("allocate m.keras --table x.npz --size 10", 1, ".json"),
        ("allocate m.keras --table bad.json --size 10", 1, "is not JSON"),
        ("allocate m.keras --table other.json --size 10", 1, "not a table"),
        ("allocate m.keras --data x.npz --size 10", 1, "the smallest that can be is"),
    ],
)
def test_errors_say_what_to_type_and_write_nothing(
    command, folder, arguments, code, message
):
    if "smallest" in message:
        pytest.importorskip("scipy", reason="the extra ptq is not installed")
    (folder / "bad.json").write_text("{", "utf-8")
    (folder / "other.json").write_text("{}", "utf-8")
    before = contents(folder)
    result = command(*arguments.split())
    assert result.exit_code == code, result.output
    assert message in result.output
    assert contents(folder) == before


def test_labels_of_the_file_are_used(command, folder):
    result = command(
        *("sensitivity", "m.keras", "--data", "labelled.npz", "--metric", "loss"),
        *("--bits", "4", "--quantizer", QUANTIZER, "--json"),
    )
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["metric"].startswith("sensitivity:loss(")


def test_wrong_names_are_reported_before_a_backend_starts(process, tmp_path):
    """A backend that cannot be imported is not asked for."""
    keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)]).save(tmp_path / "m.keras")
    np.savez(tmp_path / "x.npz", x=np.ones((4, 2)))
    for arguments in (
        ("sensitivity", "m.keras", "--data", "x.npz", "--metric", "kll"),
        ("allocate", "m.keras", "--table", "t.json", "--size", "3"),
    ):
        done = process(*arguments, KERAS_BACKEND="none")
        assert done.returncode == 1
        assert "KERAS_BACKEND" not in done.stderr
