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
    """The predictions of a model, computed alike in both processes."""
    predicted: NDArray[Any] = np.asarray(model.predict(inputs, batch_size=256, verbose=0))
    return predicted


def predict_elsewhere(path: Path, inputs: NDArray[Any]) -> NDArray[Any]:
    """The predictions of a saved model in a fresh process.

    Raises:
        QFrameError: the process failed; its last lines are quoted.
    """
    import keras

    with tempfile.TemporaryDirectory(prefix="qframe-") as folder:
        examples, predicted = Path(folder, "inputs.npy"), Path(folder, "predicted.npy")
        np.save(examples, inputs)
        done = subprocess.run(
            [sys.executable, "-c", _PROGRAM, str(path), str(examples), str(predicted)],
            env={
                **os.environ,
                "KERAS_BACKEND": keras.backend.backend(),
                # The same modules, wherever this process found them, and none from the
                # current directory.
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
    """The difference of two predictions, or an empty string where every bit is equal."""
    if (here.dtype, here.shape) != (there.dtype, there.shape):
        return (
            f"{there.dtype} values of shape {there.shape} instead of {here.dtype} "
            f"values of shape {here.shape}"
        )
    if here.tobytes() == there.tobytes():
        return ""
    gap = np.abs(here.astype(np.float64) - there)
    # NaN counts as different, since no comparison with it is true.
    return f"{np.sum(~(gap == 0))} of {gap.size} values differ, by {gap.max():.3g} at most"


def main() -> None:
    """Predict in the fresh process; its arguments are ``MODEL INPUTS PREDICTED``."""
    import qframe as qf

    model, inputs, predicted = sys.argv[1:]
    np.save(predicted, predict(qf.load_model(model), np.load(inputs)))
