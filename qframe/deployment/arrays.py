"""The arrays that a runtime takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qframe.errors import ArgumentError


def check_arrays(x: Any, shapes: Sequence[tuple[int, ...]]) -> list[NDArray[Any]]:
    """The arrays of all inputs of a model.

    Args:
        x: an array of any real dtype, its first axis the batch; a list of arrays for a
            model with several inputs, in their order.
        shapes: the shape of each input, without the batch.

    Raises:
        ArgumentError: the arrays have other shapes, or are not of real numbers.
    """
    # For a single image, a loop would be seen in the time of a prediction.
    if len(shapes) == 1:
        return [_checked(x, shapes[0])]
    if not isinstance(x, (list, tuple)) or len(x) != len(shapes):
        raise ArgumentError(
            f"predict takes a list of {len(shapes)} arrays, found {type(x).__name__}."
        )
    arrays = [_checked(*pair) for pair in zip(x, shapes, strict=True)]
    if len({len(array) for array in arrays}) > 1:
        sizes = ", ".join(str(len(array)) for array in arrays)
        raise ArgumentError(f"predict takes batches of one size, found {sizes}.")
    return arrays


def _checked(argument: Any, shape: tuple[int, ...]) -> NDArray[Any]:
    """An input as an array, of real numbers and of this shape behind its first axis."""
    try:
        array = np.asarray(argument)
    except ValueError as error:  # rows of several lengths
        raise ArgumentError(f"predict takes arrays: {error}.") from error
    if array.dtype.kind not in "fiub":
        raise ArgumentError(
            f"predict takes real numbers, found {array.dtype}. Write for example "
            "x.astype('float32')."
        )
    if array.shape[1:] != shape or not array.ndim:
        expected = ", ".join(map(str, ("batch", *shape)))
        raise ArgumentError(
            f"predict takes an array of shape ({expected}), found {array.shape}."
        )
    return array
