"""Model files of commands."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import attrs
import click

from qframe.cli.backend import start_backend
from qframe.errors import DataError, QFrameError
from qframe.paths import existing_file


@attrs.frozen
class Source:
    """A file that may hold a model."""

    path: Path

    @classmethod
    def check(cls, name: str) -> Source:
        """Check a path; raises `DataError` for anything but a model file."""
        import zipfile  # here, so that `qframe list` does not wait for it

        path = existing_file(name, ".keras", *_HDF5)
        if path.suffix in _HDF5:
            _check_hdf5(path)
        elif not zipfile.is_zipfile(path):
            raise DataError(
                f"{name} is damaged, or not a .keras file: it is not a zip archive."
            )
        return cls(path)

    def load(self, *, compile: bool) -> Any:
        """Start the backend and load the model; raises `QFrameError`.

        Args:
            compile: load the loss, the metrics and the state of the optimizer too.
        """
        start_backend()
        import qframe as qf

        try:
            return qf.load_model(self.path, compile=compile)
        except QFrameError:
            raise
        # Keras and h5py raise almost anything for a file that is damaged or foreign.
        except Exception as error:
            hint = ""
            if compile:
                with contextlib.suppress(Exception):
                    qf.load_model(self.path, compile=False)
                    remedy = "add --no-compile to leave them out."
                    if "no_compile" not in click.get_current_context().params:
                        path = str(self.path)
                        remedy = (
                            "leave them out in Python with qframe.load_model("
                            f"{path!r}, compile=False).save({path!r})."
                        )
                    hint = (
                        "\nIt loads without its loss, its metrics and its optimizer: "
                        f"{remedy}"
                    )
            raise DataError(
                f"{self.path} cannot be loaded: {type(error).__name__}: {error}{hint}"
            ) from error


_HDF5 = (".h5", ".hdf5")


def _check_hdf5(path: Path) -> None:
    """Raise `DataError` unless an HDF5 file holds a model without code."""
    import h5py

    code = False

    def find_code(part: dict[str, Any]) -> dict[str, Any]:
        nonlocal code
        code |= part.get("class_name") == "__lambda__"
        code |= part.get("function_type") == "lambda"
        return part

    try:
        with h5py.File(path, "r") as file:
            config = file.attrs.get("model_config")
        if config is not None:
            json.loads(config, object_hook=find_code)
    # h5py and the decoders raise almost anything for a file that is damaged.
    except Exception as error:
        raise DataError(
            f"{path} is damaged, or not a model in HDF5: {type(error).__name__}: {error}."
        ) from error
    if config is None:
        raise DataError(
            f"{path} holds weights, and no model. Make the model in Python, write "
            f"model.load_weights({str(path)!r}) and model.save('model.keras')."
        )
    if code:
        # Keras before 3.11.3 runs it even in safe mode.
        raise DataError(
            f"{path} holds Python code, the function of a Lambda layer, which would run. "
            "If you trust it, write in Python keras.saving.load_model(path, "
            "safe_mode=False), and put a layer class in place of the Lambda."
        )
