"""Models loaded in a fresh process, which knows plugins only by their entry points.

One process serves all checks of a session, since a backend takes seconds to start.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np


@functools.cache
def _server() -> subprocess.Popen[str]:
    server = subprocess.Popen(
        [sys.executable, "-m", "qframe.testing.fresh_process"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        # Backends log much at their start. Errors come back as answers.
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    atexit.register(server.kill)
    return server


def predict(model: Path, inputs: Any) -> Any:
    """The outputs of a saved model loaded there; raise the error of that process.

    Args:
        model: the path of the file.
        inputs: an array, or a list of them for a model of several inputs.

    Returns:
        An array, or a list of them for a model of several outputs.
    """
    with tempfile.TemporaryDirectory() as folder:
        source, result = Path(folder) / "inputs.npz", Path(folder) / "outputs.npz"
        _write(source, inputs)
        server: Any = _server()
        request = json.dumps([str(model), str(source), str(result)])
        print(request, file=server.stdin, flush=True)
        answer = server.stdout.readline()
        if not answer:
            _server.cache_clear()
            raise AssertionError("the process that loads models ended without an answer.")
        error = json.loads(answer)
        if error:
            raise AssertionError(f"there, {error}")
        return _read(result)


def _write(path: Path | str, arrays: Any) -> None:
    np.savez(path, *(arrays if isinstance(arrays, list | tuple) else [arrays]))


def _read(path: Path | str) -> Any:
    with np.load(path) as file:
        arrays = [*file.values()]
    return arrays[0] if len(arrays) == 1 else arrays


def serve() -> None:
    """Answer each line of JSON with another one, until the input ends."""
    # Other output of this process must not mix with the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    import qframe as qf

    for line in sys.stdin:
        model, source, result = json.loads(line)
        error = ""
        try:
            _write(result, qf.load_model(model).predict(_read(source), verbose=0))
        # The other process raises the error.
        except Exception as problem:
            error = f"{type(problem).__name__}: {problem}"
        print(json.dumps(error), file=answers, flush=True)


if __name__ == "__main__":
    serve()
