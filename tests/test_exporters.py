"""Exporters of plugins: found by name, written whole or not at all, run by their module."""

import pytest

import qframe as qf
from qframe.components import exporter
from qframe.errors import ArgumentError, OutputError, PluginError, UnknownNameError

pytestmark = pytest.mark.pure

PLUGIN = '''
import qframe
from qframe.components import exporter

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
    assert "packed" not in dir(qf)  # asking what there is finds no plugins
    for name in ("broken", "txet", "_text"):
        with pytest.raises(AttributeError, match=f"no attribute '{name}'"):
            getattr(qf, name)


def test_a_submodule_is_no_runtime(install):
    """Python asks for each submodule as an attribute before it imports it."""
    install("texts", PLUGIN.replace('"text",', '"files",'))
    assert qf.__getattr__.__module__ == "qframe"
    with pytest.raises(AttributeError, match="no attribute 'files'"):
        qf.__getattr__("files")


@pytest.mark.parametrize(
    "wrong", [{"suffix": "txt"}, {"suffix": ""}, {"suffix": ".txt", "runtime": "a:b"}]
)
def test_a_wrong_manifest(wrong):
    with pytest.raises(PluginError, match=r"the (suffix|runtime) of the exporter 'm:Text'"):
        exporter("text", "m:Text", **wrong)
