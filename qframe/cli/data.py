"""Data files of commands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import click

from qframe.errors import DataError
from qframe.paths import existing_file, read_array, read_arrays

# The names of the arrays of examples and of labels.
_NAMES = (("x", "y"), ("x_test", "y_test"))

# The option of commands that compare, which need examples.
labelled_data = click.option(
    "--data",
    required=True,
    metavar="FILE.npz",
    help="Examples as the array x or x_test, and for the accuracy labels as y or y_test.",
)


def unlabelled_data(need: str = "") -> Any:
    """The option of commands that run a model over examples.

    Args:
        need: a sentence on its use, where it is not required.
    """
    return click.option(
        "--data",
        required=not need,
        metavar="FILE.npz|FILE.npy|FOLDER",
        help="Examples: the array x or x_test of an .npz file, an .npy file, or a folder "
        f"with an .npy file for each example. Some hundreds are enough. {need}".rstrip(),
    )


@attrs.frozen(eq=False)
class Data:
    """Examples, and their labels or None."""

    x: Any
    y: Any

    @classmethod
    def check(cls, name: str) -> Data:
        """Read examples from a file or folder; raises `DataError` for one without."""
        arrays = _read(name)
        x, y = next((pair for pair in _NAMES if pair[0] in arrays), ("", ""))
        if not x:
            raise DataError(
                f"{name} has no array x or x_test; it has {', '.join(arrays) or 'none'}. "
                f"Write for example: numpy.savez({name!r}, x=images, y=labels)."
            )
        data = cls(arrays[x], arrays.get(y))
        if not data.x.ndim or not len(data.x):
            raise DataError(f"{x} of {name} is empty: it has the shape {data.x.shape}.")
        if data.y is not None and len(data.y) != len(data.x):
            raise DataError(
                f"{name} has {len(data.x)} examples in {x} and {len(data.y)} labels in "
                f"{y}; each example needs one."
            )
        return data


def _read(name: str) -> dict[str, Any]:
    """The arrays of an .npz file; those of an .npy file or of a folder as x."""
    import numpy as np

    folder = Path(name).expanduser()
    if not folder.is_dir():
        path = existing_file(name, ".npz", ".npy")
        return {"x": read_array(path)} if path.suffix == ".npy" else read_arrays(path)
    files = sorted(folder.glob("*.npy"))
    if not files:
        raise DataError(f"{name} has no .npy files; each is to hold one example.")
    examples = [read_array(file) for file in files]
    for file, example in zip(files, examples, strict=True):
        if example.shape != examples[0].shape or example.dtype != examples[0].dtype:
            raise DataError(
                f"{file} holds {example.dtype} of the shape {example.shape}, and "
                f"{files[0]} {examples[0].dtype} of {examples[0].shape}. Each file of a "
                "folder is to hold one example, all of one shape and dtype."
            )
    return {"x": np.stack(examples)}
