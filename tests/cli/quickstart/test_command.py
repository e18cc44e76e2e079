"""`qframe quickstart`, as a person runs it."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from qframe.cli import main


def start(folder, *arguments, **environment):
    return subprocess.Popen(
        [sys.executable, "-m", "qframe", "quickstart", *arguments],
        env={**os.environ, **environment},
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        # A job in the background of a shell ignores it, and so would its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def run(folder, *arguments, **environment):
    environment.setdefault("PYTHONUTF8", "1")
    process = start(folder, *arguments, **environment)
    out, err = process.communicate()
    assert "Traceback" not in out + err
    assert "\x1b" not in out
    return process.returncode, out, err


@pytest.mark.long  # two processes that import a backend
def test_digits(tmp_path):
    # Less than by default, and enough to see that it learns.
    code, out, err = run(tmp_path, "--epochs", "8")
    assert (code, err) == (0, "")
    images = re.search(r"(\d+) images to train with and 360 to test with", out)
    assert int(images[1]) > 1000
    epochs = re.findall(r"epoch (\d)/8  loss \d+\.\d+  accuracy 0\.\d+  \d+\.\d s", out)
    assert "".join(epochs) == "12345678"
    [(accuracy, right)] = re.findall(
        r"Test accuracy: (\d+\.\d\d)% \((\d+) of 360 images\)", out
    )
    assert f"{int(right) / 3.6:.2f}" == accuracy
    assert float(accuracy) > 90
    assert f"Saved {tmp_path / 'qframe-quickstart.keras'}: " in out
    assert "all 3600 values are equal to the bit" in out
    assert re.search(r"Deployable size: \d+\.\d KiB", out)
    assert [path.name for path in tmp_path.iterdir()] == ["qframe-quickstart.keras"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--output", "m.h5"], "does not end in .keras"),
        (["--output", ""], "does not end in .keras"),
        (["--output", "absent/m.keras"], "does not exist; make it first"),
        (["--output", "there.keras"], "there.keras exists; name another file"),
        (["--data", "absent.npz"], "absent.npz does not exist"),
        (["--data", "minst"], "Did you mean 'mnist'?"),
    ],
)
def test_mistakes_are_said_before_anything_starts(
    tmp_path, monkeypatch, arguments, message
):
    monkeypatch.chdir(tmp_path)
    Path("there.keras").write_text("before")
    monkeypatch.setattr("qframe.cli.models.start_backend", lambda: 1 / 0)
    result = CliRunner().invoke(main, ["quickstart", *arguments])
    assert result.exit_code == 1
    assert message in result.output
    assert "Traceback" not in result.output
    assert Path("there.keras").read_text() == "before"
    assert os.listdir() == ["there.keras"]


def test_output_without_a_name_replaces_no_file(arrays, save, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def job(data, epochs, seed, target, console):
        assert epochs == data.epochs
        target.write(lambda path: path.write_text(f"seed {seed}"))

    monkeypatch.setattr("qframe.cli.quickstart.job.run", job)
    arguments = ["quickstart", "--data", save(arrays)]
    for seed in ("1", "2", "3"):
        result = CliRunner().invoke(main, [*arguments, "--seed", seed])
        assert result.exit_code == 0, result.output
    actual = {path.name: path.read_text() for path in tmp_path.glob("*.keras")}
    assert actual == {
        "qframe-quickstart.keras": "seed 1",
        "qframe-quickstart-2.keras": "seed 2",
        "qframe-quickstart-3.keras": "seed 3",
    }


def test_output_without_a_name_forced_replaces_the_first_file(
    arrays, save, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        "qframe.cli.quickstart.job.run",
        lambda data, epochs, seed, target, console: target.write(
            lambda path: path.write_text("after")
        ),
    )
    for name in ("qframe-quickstart.keras", "qframe-quickstart-2.keras"):
        Path(name).write_text("before")
    result = CliRunner().invoke(main, ["quickstart", "--data", save(arrays), "--force"])
    assert result.exit_code == 0, result.output
    actual = {path.name: path.read_text() for path in tmp_path.glob("*.keras")}
    assert actual == {
        "qframe-quickstart.keras": "after",
        "qframe-quickstart-2.keras": "before",
    }


def test_different_predictions_are_an_error(arrays, save, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "qframe.cli.quickstart.job.predict_elsewhere",
        lambda path, inputs: np.full((20, 10), 0.5, np.float32),
    )
    output = tmp_path / "m.keras"
    data = ["--data", save(arrays), "--epochs", "1", "--output", str(output)]
    result = CliRunner().invoke(main, ["quickstart", *data])
    assert result.exit_code == 1
    assert "predicts something else than the trained model: 200 of 200" in result.output


@pytest.mark.long
def test_mnist_without_network(tmp_path):
    environment = {"https_proxy": "http://127.0.0.1:9", "KERAS_HOME": str(tmp_path)}
    code, _, err = run(tmp_path, "--data", "mnist", **environment)
    assert code == 1
    assert "MNIST cannot be downloaded" in err
    assert "--data FILE.npz" in err


@pytest.mark.long
def test_a_real_file(tmp_path, some_mnist):
    code, out, _ = run(tmp_path, "--data", str(some_mnist), "--epochs", "1")
    assert code == 0
    [accuracy] = re.findall(r"epoch 1/1 .* accuracy (\S+)", out)
    # What it learned from; that of the test images leaps from one batch to the next.
    assert float(accuracy) > 0.6


@pytest.mark.long
@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_interrupt(tmp_path):
    process = start(tmp_path, "--epochs", "1000", PYTHONUNBUFFERED="1")
    while "epoch" not in process.stdout.readline():
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Interrupted." in err
    assert "Traceback" not in out + err
    assert list(tmp_path.iterdir()) == []
