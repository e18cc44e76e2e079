"""The model file that a command reads."""

from __future__ import annotations

import contextlib
import zipfile
from pathlib import Path
from typing import Any

import attrs

from qframe.cli.backend import start_backend
from qframe.errors import DataError, QFrameError
from qframe.files import existing


@attrs.frozen
class Source:
    """A file that may hold a model."""

    path: Path

    @classmethod
    def check(cls, name: str) -> Source:
        """A source at this path; raises `DataError` where there is none."""
        path = existing(name, ".keras")
        if not zipfile.is_zipfile(path):
            raise DataError(
                f"{name} is damaged, or not a .keras file: it is no zip archive."
            )
        return cls(path)

    def load(self, *, compile: bool) -> Any:
        """Start the backend and load the model; raises `QFrameError`.

        Args:
            compile: with its loss, its metrics and the state of its optimizer.
        """
        start_backend()
        import qframe as qf

        try:
            return qf.load_model(self.path, compile=compile)
        except QFrameError:
            raise
        # Keras and h5py raise nearly anything for a file that is damaged or foreign.
        except Exception as error:
            hint = ""
            if compile:
                with contextlib.suppress(Exception):
                    qf.load_model(self.path, compile=False)
                    hint = (
                        "\nIt loads without its loss, its metrics and its optimizer: add "
                        "--no-compile to leave them out."
                    )
            raise DataError(
                f"{self.path} cannot be loaded: {type(error).__name__}: {error}{hint}"
            ) from error
