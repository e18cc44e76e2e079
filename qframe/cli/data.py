"""The data file that a command reads."""

from __future__ import annotations

from typing import Any

import attrs

from qframe.errors import DataError
from qframe.paths import existing_file, read_arrays

# Examples, and their labels.
_NAMES = (("x", "y"), ("x_test", "y_test"))


@attrs.frozen(eq=False)
class Data:
    """Examples, and labels or None."""

    x: Any
    y: Any

    @classmethod
    def check(cls, name: str) -> Data:
        """What is in an .npz file; raises `DataError` where there are no examples."""
        arrays = read_arrays(existing_file(name, ".npz"))
        x, y = next((pair for pair in _NAMES if pair[0] in arrays), ("", ""))
        if not x:
            raise DataError(
                f"{name} has no array x or x_test; it has {', '.join(arrays) or 'none'}. "
                f"Write for example: numpy.savez({name!r}, x=images, y=labels)."
            )
        found = cls(arrays[x], arrays.get(y))
        if not found.x.ndim or not len(found.x):
            raise DataError(f"{x} of {name} is empty: it has the shape {found.x.shape}.")
        if found.y is not None and len(found.y) != len(found.x):
            raise DataError(
                f"{name} has {len(found.x)} examples in {x} and {len(found.y)} labels in "
                f"{y}; each example needs one."
            )
        return found
