"""The import of Keras and its backend for a command, without their messages."""

from __future__ import annotations

import contextlib
import importlib
import os
from collections.abc import Iterator

from qframe.cli.output import redirected
from qframe.errors import QFrameError


class BackendError(QFrameError):
    """A failed import of Keras, mostly because its backend is not installed."""


def start_backend() -> None:
    """Import Keras with the backend that the user chose.

    Only commands are quiet: a program that imports qframe keeps its own log levels.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        with _silent_stderr():
            importlib.import_module("keras")
    # Keras raises ValueError if KERAS_BACKEND is not the name of a backend.
    except (ImportError, ValueError) as error:
        raise BackendError(
            f"Keras cannot be imported with its backend: {error}. Write: "
            "pip install 'keras-qframe[tensorflow]', or name a backend that you have "
            "in the environment variable KERAS_BACKEND (tensorflow, jax or torch)."
        ) from error


@contextlib.contextmanager
def _silent_stderr() -> Iterator[None]:
    """Drop the messages of native libraries while they load.

    TensorFlow reports missing GPU drivers before it reads its own log level.
    """
    with open(os.devnull, "wb") as nowhere, redirected(2, nowhere.fileno()):
        yield
