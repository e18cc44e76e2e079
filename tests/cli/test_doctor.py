"""`qframe doctor`."""

import json
import os
import sys

import keras
import numpy as np
import pytest

import qframe


def test_doctor_lists_versions_backend_and_plugins(command):
    actual = json.loads(command("doctor", "--json").stdout)
    versions = actual["versions"]
    assert versions["qframe"] == qframe.__version__
    assert versions["keras"] == keras.__version__
    assert versions["python"] == ".".join(map(str, sys.version_info[:3]))
    assert actual["backend"] == keras.backend.backend()
    assert versions[actual["backend"]] is not None
    assert actual["self_test"] == {"passed": True, "message": None}
    assert "binary" in [plugin["namespace"] for plugin in actual["plugins"]]


def test_table(command, broken):
    result = command("doctor")
    assert result.exit_code == 0, result.output
    lines = [line.split() for line in result.output.splitlines()]
    assert ["self-test", "passed"] in lines
    assert ["backend", keras.backend.backend()] in lines
    assert "broken: ImportError: no module named flux" in result.output


def test_the_processor_is_that_of_numba(command):
    llvm = pytest.importorskip("llvmlite.binding", reason="numba is not installed")
    actual = json.loads(command("doctor", "--json").stdout)["cpu"]
    assert actual["name"] == llvm.get_host_cpu_name()
    assert {key for key, there in llvm.get_host_cpu_features().items() if there} == set(
        actual["features"]
    )


def test_a_model_that_does_not_come_back(command, monkeypatch):
    load = qframe.load_model

    def other(path, **kwargs):
        model = load(path, **kwargs)
        model.set_weights([np.flip(w) for w in model.get_weights()])
        return model

    monkeypatch.setattr("qframe.models.load_model", other)
    result = command("doctor")
    assert result.exit_code == 1
    assert "values differ" in result.output
    failed = command("doctor", "--json")
    assert failed.exit_code == 1
    # Older versions of click mix standard error into what the runner sees.
    text = failed.output[failed.output.index("{") :]
    actual, _ = json.JSONDecoder().raw_decode(text)
    assert actual["self_test"]["passed"] is False


def test_an_error_in_the_self_test(command, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("oops")

    monkeypatch.setattr("qframe.passes.quantize", broken)
    result = command("doctor")
    assert result.exit_code == 1
    assert "the self-test failed: RuntimeError: oops" in result.output


def test_no_backend(process, tmp_path):
    absent = tmp_path / "site"
    absent.mkdir()
    (absent / "tensorflow.py").write_text("raise ModuleNotFoundError('no tensorflow')")
    path = os.pathsep.join([str(absent), os.environ.get("PYTHONPATH", "")])
    done = process("doctor", "--json", PYTHONPATH=path, KERAS_BACKEND="tensorflow")
    assert done.returncode == 1
    actual = json.loads(done.stdout)
    assert actual["backend"] is None
    assert "pip install 'keras-qframe[tensorflow]'" in actual["self_test"]["message"]
