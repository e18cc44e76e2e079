"""The predictions of a saved model in a fresh process."""

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
        process = subprocess.run(
            [sys.executable, "-c", _PROGRAM, str(path), str(examples), str(predicted)],
            env={
                **os.environ,
                "KERAS_BACKEND": keras.backend.backend(),
                # The modules of this process, and none from the current directory.
                "PYTHONPATH": os.pathsep.join(p or os.getcwd() for p in sys.path),
                "PYTHONSAFEPATH": "1",
            },
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        if process.returncode:
            last = "\n".join(process.stderr.strip().splitlines()[-5:])
            raise QFrameError(
                f"{path} is saved, but a fresh process cannot load it and predict (exit "
                f"code {process.returncode}):\n{last}"
            )
        result: NDArray[Any] = np.load(predicted, allow_pickle=False)
        return result


def difference(expected: NDArray[Any], actual: NDArray[Any]) -> str:
    """The difference of two predictions; an empty string if they are equal to the bit."""
    if (expected.dtype, expected.shape) != (actual.dtype, actual.shape):
        return (
            f"{actual.dtype} values of shape {actual.shape} instead of {expected.dtype} "
            f"values of shape {expected.shape}"
        )
    if expected.tobytes() == actual.tobytes():
        return ""
    gap = np.abs(expected.astype(np.float64) - actual)
    # NaN counts as different, since no comparison with it is true.
    return f"{np.sum(~(gap == 0))} of {gap.size} values differ, by {gap.max():.3g} at most"


def main() -> None:
    """Predict in the fresh process; its arguments are ``MODEL INPUTS PREDICTED``."""
    import qframe as qf

    model, inputs, predicted = sys.argv[1:]
    np.save(predicted, predict(qf.load_model(model), np.load(inputs)))
