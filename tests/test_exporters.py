"""Exporters of plugins: found by name, written whole or not at all, run by their module."""

import importlib
import subprocess
import sys

import pytest

import qframe as qf
import qframe.testing
from qframe.errors import ArgumentError, OutputError, PluginError, UnknownNameError
from qframe.registry.components import exporter

pytestmark = pytest.mark.pure

PLUGIN = '''
import qframe
from qframe.registry.components import exporter

@qframe.hookimpl
def qframe_components():
    yield exporter(
        "text", "texts_m:Text", suffix=".txt", runtime="texts_m", summary="its name"
    )
    yield exporter("broken", "texts_m:Broken", suffix=".txt")

class Text:
    """Writes the name of a model."""

    def __init__(self, times=1):
        self.times = times

    def __call__(self, model, path):
        path.write_text(model * self.times)
        if model == "bad":
            raise qframe.errors.ExportError("no place for it")

def load(path):
    return path.read_text()
'''


@pytest.fixture
def texts(install):
    install("texts", PLUGIN)


@pytest.mark.parametrize(
    ("target", "content"),
    [("text", "m"), ("texts:text", "m"), ("text(times=3)", "mmm")],
)
def test_export_and_load(texts, tmp_path, target, content):
    path = tmp_path / "m.txt"
    path.write_text("before")
    qf.export("m", path, target=target)
    assert qf.text.load(path) == content
    assert [p.name for p in tmp_path.iterdir()] == ["m.txt"]


def test_a_refused_model_leaves_what_was_there(texts, tmp_path):
    path = tmp_path / "m.txt"
    path.write_text("before")
    with pytest.raises(qf.errors.ExportError, match="no place for it"):
        qf.export("bad", path, target="text")
    assert [p.name for p in tmp_path.iterdir()] == ["m.txt"]
    assert path.read_text() == "before"


def test_unknown_target(texts, tmp_path):
    with pytest.raises(UnknownNameError, match=r"unknown exporter 'txet'.* Did you mean"):
        qf.export("m", tmp_path / "m.txt", target="txet")
    with pytest.raises(UnknownNameError, match=r"Known: .*packed:packed, .*texts:text\."):
        qf.export("m", tmp_path / "m.txt", target="onnx")


@pytest.mark.parametrize(
    ("name", "target", "error", "why"),
    [
        ("m.onnx", "text", OutputError, r"does not end in \.txt"),
        ("absent/m.txt", "text", OutputError, "does not exist"),
        (
            "m.txt",
            "text(time=3)",
            ArgumentError,
            "Did you mean 'times'",
        ),
        ("m.txt", "broken", PluginError, "texts_m:Broken, which cannot be loaded"),
    ],
)
def test_wrong_arguments(texts, tmp_path, name, target, error, why):
    with pytest.raises(error, match=why):
        qf.export("m", tmp_path / name, target=target)
    assert list(tmp_path.iterdir()) == []


def test_a_runtime_is_a_word_of_qframe(texts):
    assert qf.text.__name__ == "texts_m"
    assert {"text", "packed"} <= set(dir(qf))
    assert "broken" not in dir(qf)  # it has no runtime
    for name in ("broken", "txet", "_text"):
        with pytest.raises(AttributeError, match=f"no attribute '{name}'"):
            getattr(qf, name)


def test_a_submodule_is_no_runtime(install):
    """Python asks for each submodule as an attribute before it imports it."""
    install("texts", PLUGIN.replace('"text",', '"paths",'))
    assert qf.__getattr__.__module__ == "qframe"
    with pytest.raises(AttributeError, match="no attribute 'paths'"):
        qf.__getattr__("paths")


@pytest.mark.parametrize(
    "wrong", [{"suffix": "txt"}, {"suffix": ""}, {"suffix": ".txt", "runtime": "a:b"}]
)
def test_a_wrong_manifest(wrong):
    with pytest.raises(PluginError, match=r"the (suffix|runtime) of the exporter 'm:Text'"):
        exporter("text", "m:Text", **wrong)


def test_import_of_a_runtime_by_a_statement_is_the_module_itself(texts):
    try:
        import qframe.text as imported
        from qframe.text import load

        assert imported is qf.text is sys.modules["texts_m"]
        assert load is qf.text.load
        assert qf.text.__spec__.name == qf.text.__name__ == "texts_m"
    finally:
        del sys.modules["qframe.text"], qf.text


@pytest.mark.parametrize("name", ["absent", "broken", "_text", "text.more"])
def test_import_of_what_is_no_runtime_is_an_import_error(texts, name):
    try:
        with pytest.raises(ModuleNotFoundError, match=name.rpartition(".")[2]):
            importlib.import_module(f"qframe.{name}")
    finally:
        if sys.modules.pop("qframe.text", None):
            del qf.text


def test_import_of_the_packed_runtime_in_a_fresh_process():
    code = "import sys; from qframe.packed import load; print('keras' in sys.modules, load)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert done.stdout.startswith("False <function load"), done.stderr


def test_dir_of_qframe_has_public_names_only(texts):
    assert set(dir(qf)) == {*qf.__all__, "litert", "packed", "text"}
    assert set(dir(qf.testing)) == set(qf.testing.__all__)
    for name in dir(qf):
        assert getattr(qf, name) is not None


def test_dir_of_qframe_with_a_broken_plugin_is_no_error(install, monkeypatch):
    install("texts", "raise SystemExit")
    monkeypatch.setenv("QFRAME_STRICT_PLUGINS", "1")
    assert set(dir(qf)) == set(qf.__all__)
