"""Load a saved model in a fresh process and predict with it there."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qframe.errors import QFrameError

_PROGRAM = "from qframe.cli.quickstart.reload import main; main()"


def predict(model: Any, inputs: NDArray[Any]) -> NDArray[Any]:
    """What a model predicts, the same way in both processes."""
    predicted: NDArray[Any] = np.asarray(model.predict(inputs, batch_size=256, verbose=0))
    return predicted


def predict_elsewhere(path: Path, inputs: NDArray[Any]) -> NDArray[Any]:
    """What the model in a file predicts in a process that knows nothing else of it.

    Raises:
        QFrameError: the process failed; the last lines that it wrote are quoted.
    """
    import keras

    with tempfile.TemporaryDirectory(prefix="qframe-") as folder:
        given, predicted = Path(folder, "inputs.npy"), Path(folder, "predicted.npy")
        np.save(given, inputs)
        done = subprocess.run(
            [sys.executable, "-c", _PROGRAM, str(path), str(given), str(predicted)],
            env={
                **os.environ,
                "KERAS_BACKEND": keras.backend.backend(),
                # The same modules, however this process came to find them; and not
                # whatever lies in the current directory.
                "PYTHONPATH": os.pathsep.join(p or os.getcwd() for p in sys.path),
                "PYTHONSAFEPATH": "1",
            },
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        if done.returncode:
            last = "\n".join(done.stderr.strip().splitlines()[-5:])
            raise QFrameError(
                f"{path} is saved, but a fresh process cannot load it and predict (exit "
                f"code {done.returncode}):\n{last}"
            )
        result: NDArray[Any] = np.load(predicted, allow_pickle=False)
        return result


def difference(here: NDArray[Any], there: NDArray[Any]) -> str:
    """How two predictions differ, or an empty string where every bit is equal."""
    if (here.dtype, here.shape) != (there.dtype, there.shape):
        return (
            f"{there.dtype} values of shape {there.shape} instead of {here.dtype} "
            f"values of shape {here.shape}"
        )
    if here.tobytes() == there.tobytes():
        return ""
    gap = np.abs(here.astype(np.float64) - there)
    # NaN counts: a comparison with it is never true.
    return f"{np.sum(~(gap == 0))} of {gap.size} values differ, by {gap.max():.3g} at most"


def main() -> None:
    """``MODEL INPUTS PREDICTED``: what the fresh process does."""
    import qframe as qf

    model, inputs, predicted = sys.argv[1:]
    np.save(predicted, predict(qf.load_model(model), np.load(inputs)))
