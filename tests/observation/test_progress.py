"""The bar of a run over data: only on a terminal, and once it takes a while."""

import io
import itertools
import re

import keras
import numpy as np
import pytest

import qframe as qf


class Stream(io.StringIO):
    """The text of standard error."""

    terminal = True

    def isatty(self):
        return self.terminal


@pytest.fixture
def calibrate(monkeypatch):
    """Calibrate, each batch so many seconds after the last; what is on standard error."""

    def run(seconds, terminal, **options):
        layers = [keras.Input((3,)), keras.layers.Dense(2)]
        model = keras.Sequential(layers)
        qf.quantize(model, "integer_inference")
        stream = Stream()
        stream.terminal = terminal
        clock = itertools.count(step=seconds)
        with monkeypatch.context() as patch:
            patch.setattr("sys.stderr", stream)
            patch.setenv("TERM", "xterm")
            patch.setattr("qframe.observation.progress.time.monotonic", lambda: next(clock))
            qf.calibrate(model, np.eye(3).repeat(32, 0), **options)
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue())

    return run


def test_long_run_shows_a_bar(calibrate, capsys):
    assert re.search(r"calibration .*3/3", calibrate(5, True))
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("seconds", "terminal", "options"),
    [(0.1, True, {}), (5, False, {}), (5, True, {"verbose": 0})],
    ids=["quick", "piped", "silent"],
)
def test_all_else_shows_none(calibrate, capsys, seconds, terminal, options):
    assert calibrate(seconds, terminal, **options).strip() == ""
    assert capsys.readouterr().out == ""


def test_an_error_leaves_no_bar(monkeypatch):
    from qframe.observation.progress import Progress

    stopped = []

    class Bar:
        def stop(self):
            stopped.append(True)

    progress = Progress("work")
    progress._bar = Bar()
    with pytest.raises(RuntimeError), progress:
        raise RuntimeError
    assert stopped == [True]
