"""``--json``: nothing but JSON on standard output, with the keys that are documented."""

import json
import re
from pathlib import Path

import keras
import numpy as np
import pytest

import qframe as qf
from qframe.cli import main

ROOT = Path(__file__).parents[2]
MODEL = ["quantized.keras"]
COMMANDS = {
    "list": [],
    "plugins": [],
    "show": ["ste_sign"],
    "summary": MODEL,
    "plan": ["float.keras", "-r", "bnn"],
    "quantize": ["float.keras", "-r", "bnn", "-o", "out.keras", "--force"],
    "fold": ["normalized.keras", "-o", "out.keras", "--force"],
    "equalize": ["float.keras", "-o", "out.keras", "--force"],
    "calibrate": ["ranged.keras", "--data", "data.npz", "-o", "out.keras", "--force"],
    "round": ["weights.keras", "--data", "data.npz", "-o", "out.keras", "--force"],
    "sensitivity": ["float.keras", "--data", "data.npz", "--bits", "2,8"],
    "allocate": ["float.keras", "--data", "data.npz", "--average", "4"],
    "compare": ["float.keras", *MODEL, "--data", "data.npz"],
    "verify": [*MODEL, "m.safetensors", "--data", "data.npz"],
    "doctor": [],
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    layers = [keras.layers.Dense(4, name="a"), keras.layers.Dense(2, name="b")]
    model = keras.Sequential([keras.Input((6,)), *layers])
    model.save("float.keras")
    norm = keras.layers.BatchNormalization()
    keras.Sequential([model, keras.layers.Dense(2), norm]).save("normalized.keras")
    qf.quantize(model, "integer_inference")
    model.save("ranged.keras")
    qf.quantize(model, {"kernel_quantizer": "integer"})
    model.save("weights.keras")
    qf.strip(model)
    qf.quantize(model, "bnn")
    model.save("quantized.keras")
    qf.export(model, "m.safetensors", target="packed")
    np.savez("data.npz", x=np.eye(6, dtype="float32"))
    return tmp_path


def documented(name):
    """The keys of a command's object, from its row in the document."""
    text = (ROOT / "docs" / "command-line.md").read_text("utf-8")
    (row,) = re.findall(rf"^\| `{name}` \| (.*?) \|", text, re.MULTILINE)
    return set(re.findall(r"`(\w+)`", row))


def test_every_table_can_be_had_as_json():
    with_json = {
        name
        for name, command in main.commands.items()
        if any("--json" in parameter.opts for parameter in command.params)
    }
    assert with_json == set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_json_alone_is_on_standard_output_with_the_documented_keys(folder, name, capfd):
    arguments = [name, *COMMANDS[name], "--json"]
    # Either what it returns, which is None, or an exit code.
    assert not main(arguments, prog_name="qframe", standalone_mode=False)
    said = capfd.readouterr()
    assert "Traceback" not in said.out + said.err
    assert set(json.loads(said.out)) == documented(name)


def test_nor_does_a_backend_write_there(process, folder):
    done = process("compare", *COMMANDS["compare"], "--json")
    assert done.returncode == 0, done.stderr
    json.loads(done.stdout)


@pytest.mark.parametrize("name", ["list", "plugins"])
def test_json_of_a_plugin_that_prints_is_alone_on_standard_output(process, install, name):
    install(
        "loud",
        "import os, sys\nprint('one')\nprint('two', file=sys.__stdout__)\n"
        "os.write(1, b'three')\nos.system('echo four')\nraise SystemExit(0)\n",
    )
    done = process(name, "--json")
    assert done.returncode == 0, done.stderr
    json.loads(done.stdout)
    assert {"one", "two", "four"} <= set(done.stderr.replace("three", "").split())


def test_list_of_broken_plugins(command, broken):
    actual = json.loads(command("list", "--json").stdout)
    assert actual["broken_plugins"] == ["broken"]
    names = [each["name"] for each in actual["components"]]
    assert "binary:ste_sign" in names
    plugins = json.loads(command("plugins", "--json").stdout)["plugins"]
    (entry,) = (each for each in plugins if each["namespace"] == "broken")
    assert entry["error"].startswith("ImportError")
    assert entry["components"] == 0


def test_values_without_json_are_null(capsys):
    from qframe.cli.output import print_json

    print_json({"a": [float("nan"), (float("inf"), 1)]})
    assert json.loads(capsys.readouterr().out) == {"a": [None, [None, 1]]}
