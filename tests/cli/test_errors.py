"""Errors are one message and an exit code, whatever happens."""

import os

import click
import pytest

import qframe
from qframe.cli import main


@pytest.fixture
def failing(monkeypatch):
    """A command ``fail`` that raises an error."""

    def register(error):
        def fail():
            raise error

        monkeypatch.setitem(main.commands, "fail", click.Command("fail", callback=fail))

    return register


def test_version(command):
    assert command("--version").output == f"qframe, version {qframe.__version__}\n"


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help_names_all_commands(command, option):
    output = command(option).output
    for name in main.commands:
        assert f"\n  {name} " in output
    assert "..." not in output.partition("Commands:")[2]  # no description is cut


def test_help_says_the_exit_codes(command):
    text = " ".join(command("--help").output.split())
    assert "Exit codes: 0 when all is done, 1 for an error, 2 for wrong usage" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["lsit"], "No such command 'lsit'"),
        (["list", "--king", "quantizer"], "No such option"),
        (["show"], "Missing argument 'NAME'"),
        (["list", "extra"], "unexpected extra argument"),
        (["quickstart", "--epochs", "0"], "0 is not in the range x>=1"),
        (["quickstart", "--seed", "-1"], "-1 is not in the range"),
        (["quickstart", "--seed", "x"], "'x' is not a valid integer"),
    ],
)
def test_wrong_usage(command, arguments, message):
    result = command(*arguments)
    assert result.exit_code == 2
    assert message in result.output


def test_error_of_qframe(command, failing):
    failing(qframe.errors.QFrameError("no such thing"))
    result = command("fail")
    assert (result.exit_code, result.output) == (1, "Error: no such thing\n")


def test_unexpected_error(command, failing):
    failing(RuntimeError("oops"))
    result = command("fail")
    assert result.exit_code == 1
    assert "unexpected RuntimeError: oops" in result.output
    assert "qframe --debug" in result.output


def test_interrupt(command, failing):
    failing(KeyboardInterrupt())
    result = command("fail")
    assert result.exit_code == 130
    assert result.output.strip() == "Interrupted."


def test_debug_raises(command, failing):
    error = RuntimeError("oops")
    failing(error)
    assert command("--debug", "fail").exception is error


def test_errors_go_to_stderr(process):
    done = process("show", "nope")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: unknown quantizer 'nope'.")


def test_debug_shows_the_traceback(process):
    done = process("--debug", "show", "nope")
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "UnknownNameError" in done.stderr


@pytest.mark.parametrize("arguments", [["show", "ste_sign"], ["quickstart"]])
def test_missing_backend(process, tmp_path, arguments):
    absent = tmp_path / "site"
    absent.mkdir()
    source = "raise ModuleNotFoundError(\"No module named 'tensorflow'\")"
    (absent / "tensorflow.py").write_text(source)
    path = os.pathsep.join([str(absent), os.environ.get("PYTHONPATH", "")])
    done = process(*arguments, PYTHONPATH=path, KERAS_BACKEND="tensorflow")
    assert done.returncode == 1
    assert "No module named 'tensorflow'" in done.stderr
    assert "pip install 'keras-qframe[tensorflow]'" in done.stderr


def test_backend_that_does_not_exist(process):
    done = process("show", "ste_sign", KERAS_BACKEND="abacus")
    assert done.returncode == 1
    assert "abacus" in done.stderr
    assert "KERAS_BACKEND" in done.stderr
