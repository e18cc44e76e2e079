"""`qframe plugins`, `qframe list` and `qframe show`."""

import json
import re
import sys
from pathlib import Path

import pytest

import qframe
from qframe.cli import main
from qframe.registry.discovery import registry

pytestmark = pytest.mark.pure


def rows(output):
    """The rows of a table, as lists of cells."""
    lines = [re.split(r"\s{2,}", line.strip()) for line in output.splitlines()]
    return [cells for cells in lines if len(cells) > 1]


def test_plugins(command):
    result = command("plugins")
    assert result.exit_code == 0
    header, *plugins = rows(result.output)
    assert header == ["Namespace", "Distribution", "Version", "Components", "State"]
    namespace, distribution, _, count, state = plugins[0]
    assert (namespace, distribution, state) == ("binary", "keras-qframe", "ok")
    assert int(count) > 0


def test_plugins_shows_broken_ones(command, broken):
    result = command("plugins")
    assert result.exit_code == 0
    why = "broken: ImportError: no module named flux"
    assert ["broken", "broken-plugin", "1.2", "0", why] in rows(result.output)


def test_plugins_shows_disabled_ones(command, third_party, monkeypatch):
    monkeypatch.setenv("QFRAME_DISABLE_PLUGINS", "other")
    result = command("plugins")
    assert result.exit_code == 0
    assert "disabled by QFRAME_DISABLE_PLUGINS" in result.output


def test_plugins_shows_two_of_one_namespace(command, install):
    install("binary", "", distribution="impostor")
    result = command("plugins")
    assert result.exit_code == 0
    assert "broken: the namespace 'binary' belongs to keras-qframe" in result.output


def test_strict_plugins(command, broken, monkeypatch):
    monkeypatch.setenv("QFRAME_STRICT_PLUGINS", "1")
    result = command("plugins")
    assert result.exit_code == 1
    assert "QFRAME_STRICT_PLUGINS is set" in result.output


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_plugins_check_without_faults_exits_with_0(command, monkeypatch, options):
    monkeypatch.setenv("QFRAME_LOAD_PLUGINS", "binary,packed")
    registry.reset()
    result = command("plugins", "--check", *options)
    assert result.exit_code == 0, result.output
    assert "Error" not in result.output
    registry.reset()


CHECKED = """
import qframe
from qframe.registry.components import adapter, constraint, exporter, quantizer, recipe

@qframe.hookimpl
def qframe_components():
    yield quantizer("absent", "checked_code:Absent")
    yield quantizer("typo", "checked_typo:A")
    yield constraint("number", "checked_code:number")
    yield recipe("made", "checked_code:number")
    yield adapter("checked_code:Plain", kernel="w")
    yield exporter("text", "checked_code:number", suffix=".txt")
    yield exporter("run", "checked_code:Plain", suffix=".txt", runtime="checked_typo")
    yield exporter("good", "checked_code:Plain", suffix=".txt")
"""
FAULTS = {
    "checked:absent": "has no attribute 'Absent' (.*checked_m.py, line 7)",
    "checked:typo": "SyntaxError: .*checked_typo.py, line 2)",
    "checked:number": "is not a class of a constraint but 3 (.*checked_m.py, line 9)",
    "checked:made": "is not a function but 3 (.*checked_m.py, line 10)",
    "checked:Plain": "is not a Keras layer class but .*checked_m.py, line 11)",
    "checked:text": "is not a class but 3 (.*checked_m.py, line 12)",
    "checked:run": "SyntaxError: .*checked_typo.py, line 2)",
    "broken": "ImportError: no module named flux (.*broken_m.py, line 1)",
}


@pytest.fixture
def checked(install):
    """A plugin with a fault of each kind, that prints what it can."""
    folder = install("checked", CHECKED)
    talk = "import os\nprint('one')\nos.write(1, b'two')\nos.system('echo three')\n"
    code = f"{talk}number = 3\nclass Plain: pass\n"
    Path(folder, "checked_code.py").write_text(code, "utf-8")
    Path(folder, "checked_typo.py").write_text("x = 1\ny = (\n", "utf-8")


def test_plugins_check_says_each_fault_with_its_place(command, checked, broken):
    result = command("plugins", "--check")
    assert result.exit_code == 1
    said = [line for line in result.output.splitlines() if line.startswith("Error: ")]
    assert len(said) == len(FAULTS)
    for name, message in FAULTS.items():
        pattern = (
            re.escape(f"Error: {name}: ") + ".*" + re.sub(r"[()]", r"\\\g<0>", message)
        )
        assert any(re.match(pattern, line) for line in said)


def test_plugins_check_with_json_has_the_faults_and_nothing_else(checked, capfd):
    assert main(["plugins", "--check", "--json"], standalone_mode=False) == 1
    said = json.loads(capfd.readouterr().out)
    plugins = {each["namespace"]: each for each in said["plugins"]}
    names = [fault["name"] for fault in plugins["checked"]["faults"]]
    assert sorted(names) == sorted(set(FAULTS) - {"broken"})
    assert plugins["binary"]["faults"] == []


def test_list(command):
    result = command("list")
    assert result.exit_code == 0
    listed = {cells[0]: cells[1:] for cells in rows(result.output)}
    assert listed["binary:ste_sign"] == [
        "quantizer",
        "SteSign",
        "sign; straight-through gradient, clipped",
    ]
    assert listed["binary:weight_clip"][0] == "constraint"


@pytest.mark.parametrize(
    ("kind", "inside", "outside"),
    [
        ("quantizer", "binary:ste_sign", "binary:weight_clip"),
        ("constraint", "binary:weight_clip", "binary:ste_sign"),
        ("recipe", "binary:bnn", "binary:ste_sign"),
        ("adapter", "scaling:Scale", "binary:ste_sign"),
    ],
)
def test_list_of_one_kind(command, scaling, kind, inside, outside):
    result = command("list", "--kind", kind)
    assert inside in result.output
    assert outside not in result.output


def test_list_of_unknown_kind(command):
    result = command("list", "--kind", "optimizer")
    assert result.exit_code == 2
    assert "'quantizer', 'constraint', 'recipe', 'adapter'" in result.output


def test_list_prints_text_as_it_is(command, third_party):
    assert "[b]rounds ±0.5[/b]" in command("list").output


def test_list_mentions_broken_plugins(command, broken):
    result = command("list")
    assert result.exit_code == 0
    assert "Broken, so not listed: broken." in result.output


def test_show_quantizer(command):
    result = command("show", "ste_sign")
    assert result.exit_code == 0
    shown = dict(cells[:2] for cells in rows(result.output))
    assert shown["binary:ste_sign"] == "sign; straight-through gradient, clipped"
    assert shown["kind"] == "quantizer"
    assert shown["aliases"] == "SteSign"
    assert shown["plugin"] == "binary (keras-qframe)"
    assert shown["signature"] == "ste_sign(clip_value=1.0)"
    assert shown["precision"] == "1 bit"
    assert shown["levels"] == "-1, 1"
    assert shown["support"] == "-1, 1"
    assert shown["traits"] == "elementwise, idempotent, monotone, odd"
    assert "Courbariaux et al., 2016" in result.output


def test_show_with_arguments(command):
    shown = dict(cells[:2] for cells in rows(command("show", "noop(precision=8)").output))
    assert shown["signature"] == "noop(precision)"
    assert shown["precision"] == "8 bits"


def test_show_without_needed_arguments(command):
    result = command("show", "noop")
    assert result.exit_code == 0
    assert "depends on its arguments: NoOp needs a value for 'precision'" in result.output


def test_show_constraint(command):
    result = command("show", "binary:WeightClip")
    assert result.exit_code == 0
    assert "weight_clip(clip_value=1.0)" in result.output
    assert "precision" not in result.output


def test_show_recipe(command):
    result = command("show", "bnn(clip_value=1.25)")
    assert result.exit_code == 0
    shown = dict(cells[:2] for cells in rows(result.output))
    assert shown["kind"] == "recipe"
    assert shown["function"] == "qframe_binary.recipes:bnn"
    assert shown["signature"] == "bnn(clip_value=1.0)"
    _, name, text = result.output.partition('name = "bnn"')
    recipe = qframe.Recipe.from_toml(name + text)
    assert recipe == qframe.recipes.get("bnn(clip_value=1.25)")


@pytest.fixture
def scaling(install):
    """A plugin that knows a layer class."""
    folder = install(
        "scaling",
        "import qframe\n"
        "from qframe.registry.components import adapter\n"
        "@qframe.hookimpl\n"
        "def qframe_components():\n"
        "    target = 'scaling_layers:Scale'\n"
        "    yield adapter(target, kernel='w', bias='b', summary='scales channels')\n",
    )
    source = 'import keras\nclass Scale(keras.layers.Layer):\n    """Scales."""\n'
    Path(folder, "scaling_layers.py").write_text(source, "utf-8")
    yield
    sys.modules.pop("scaling_layers", None)


def test_show_adapter(command, scaling):
    result = command("show", "Scale")
    assert result.exit_code == 0
    shown = dict(cells[:2] for cells in rows(result.output))
    assert shown["scaling:Scale"] == "scales channels"
    assert shown["kind"] == "adapter"
    assert shown["plugin"] == "scaling (scaling-plugin)"
    assert shown["layer class"] == "scaling_layers:Scale"
    assert shown["weights"] == "kernel = w, bias = b"
    assert shown["channel axis"] == "-1"
    assert result.output.endswith("Scales.\n")


def test_show_adapter_with_arguments(command, scaling):
    result = command("show", "Scale(units=3)")
    assert result.exit_code == 1
    assert "no arguments, found 'units'. Write: qframe show scaling:Scale" in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ste_sgn"], "unknown quantizer 'ste_sgn'. Did you mean 'ste_sign'"),
        (["weigth_clip"], "Did you mean 'weight_clip'"),
        (["ste_sign", "--kind", "constraint"], "unknown constraint 'ste_sign'"),
        (["fixd:ste_sign"], "No plugin 'fixd' is installed"),
        (["ste_sign(1.0)"], "has no key; write key=value"),
        (["ste_sign(clop_value=1.0)"], "Did you mean 'clip_value'"),
        (["ste_sign(clip_value=-1)"], "clip_value of SteSign must be a positive number"),
        (["bnn(clip=1)"], "bnn has no argument 'clip'"),
        (["noop(precision='a')"], "precision of NoOp must be"),
        ([""], "'' is not an identifier"),
    ],
)
def test_show_says_what_is_wrong(command, arguments, message):
    result = command("show", *arguments)
    assert result.exit_code == 1
    assert message in result.output


def test_show_name_of_two_kinds(command, third_party):
    result = command("show", "clamp")
    assert result.exit_code == 1
    assert "--kind quantizer or --kind constraint" in result.output


def test_show_component_that_does_not_load(command, third_party):
    result = command("show", "clamp", "--kind", "constraint")
    assert result.exit_code == 1
    assert "'other:clamp' (distribution other-plugin) points at" in result.output


def test_piped_output_is_plain_and_whole(process, install):
    long_name = "q" * 300
    install(
        "wide",
        "import qframe\nfrom qframe.registry.components import quantizer\n"
        "@qframe.hookimpl\ndef qframe_components():\n"
        f"    yield quantizer('{long_name}', 'a:B', summary='{'word ' * 100}')\n",
    )
    done = process("list", COLUMNS="20", PYTHONUTF8="1")
    assert done.returncode == 0
    assert "\x1b" not in done.stdout
    [row] = [line for line in done.stdout.splitlines() if long_name in line]
    assert "word " * 99 in row


def test_terminal_without_unicode(process, third_party):
    done = process("list", PYTHONIOENCODING="ascii")
    assert done.returncode == 0
    assert "rounds ?0.5" in done.stdout
