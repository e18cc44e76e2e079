"""Data files of commands."""

from __future__ import annotations

from typing import Any

import attrs
import click

from qframe.errors import DataError
from qframe.paths import existing_file, read_arrays

# The names of the arrays of examples and of labels.
_NAMES = (("x", "y"), ("x_test", "y_test"))

# The option of commands that compare, which need examples.
labelled_data = click.option(
    "--data",
    required=True,
    metavar="FILE.npz",
    help="Examples as the array x or x_test, and for the accuracy labels as y or y_test.",
)


@attrs.frozen(eq=False)
class Data:
    """Examples, and their labels or None."""

    x: Any
    y: Any

    @classmethod
    def check(cls, name: str) -> Data:
        """Read an .npz file; raises `DataError` for one without examples."""
        arrays = read_arrays(existing_file(name, ".npz"))
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
