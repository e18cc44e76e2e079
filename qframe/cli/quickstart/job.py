"""The steps of ``qframe quickstart``, with their output."""

from __future__ import annotations

import importlib

import keras
import numpy as np
from rich.console import Console

import qframe as qf
from qframe.cli.quickstart import network
from qframe.cli.quickstart.data import Digits, as_input
from qframe.cli.quickstart.reload import difference, predict, predict_elsewhere
from qframe.cli.quickstart.training import train
from qframe.errors import QFrameError
from qframe.paths import OutputPath


def run(data: Digits, epochs: int, seed: int, target: OutputPath, console: Console) -> None:
    """Build, summarize, train, test, save, and load in a fresh process to compare.

    Raises:
        QFrameError: the file cannot be written or loaded, or its predictions differ.
    """
    backend = keras.backend.backend()
    version = importlib.import_module(backend).__version__
    console.print(
        f"qframe {qf.__version__} with Keras {keras.__version__} and {backend} {version}."
    )
    console.print(
        f"Data: {data.description}; {len(data.x_train)} images to train with and "
        f"{len(data.x_test)} to test with.\n"
    )
    keras.utils.set_random_seed(seed)
    model = network.build()
    profile = qf.models.profile(model)
    console.print(profile)

    console.print(f"\nTraining, seed {seed}:")
    train(model, data, epochs, console)
    images = as_input(data.x_test)
    predicted = predict(model, images)
    correct = int(np.sum(predicted.argmax(axis=-1) == data.y_test))
    accuracy = correct / len(data.y_test)
    console.print(
        f"Test accuracy: {accuracy:.2%} ({correct} of {len(data.y_test)} images).\n",
        style="bold",
    )

    target.write(model.save)
    console.print(
        f"Saved {target.path}: {_kib(target.path.stat().st_size)}, with float weights "
        "and the optimizer's state to train on from."
    )
    with console.status("Loading it in a fresh process"):
        differs = difference(predicted, predict_elsewhere(target.path, images))
    if differs:
        raise QFrameError(
            f"{target.path} predicts something else than the trained model: {differs}."
        )
    console.print(
        f"Loaded in a fresh process, it predicts the same: all {predicted.size} values "
        "are equal to the bit."
    )
    console.print(
        f"Deployable size: {_kib((profile.memory or 0) / 8)}, each weight in the bits of "
        f"its quantizer (as float32: {_kib((profile.float_memory or 0) / 8)})."
    )


def _kib(size: float) -> str:
    return f"{size / 1024:.1f} KiB"
