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
    count = len(shapes)
    if count > 1 and (not isinstance(x, (list, tuple)) or len(x) != count):
        raise ArgumentError(
            f"predict takes a list of {count} arrays, found {type(x).__name__}."
        )
    arrays = []
    for argument, shape in zip(x if count > 1 else [x], shapes, strict=True):
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
        arrays.append(array)
    if len({len(array) for array in arrays}) > 1:
        sizes = ", ".join(str(len(array)) for array in arrays)
        raise ArgumentError(f"predict takes batches of one size, found {sizes}.")
    return arrays
