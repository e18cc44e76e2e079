"""Tensors split into groups of consecutive numbers in each channel."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from keras import ops

from qframe.errors import ArgumentError
from qframe.quantizers import Groups


def split(
    x: Any, groups: Groups, owner: str, xp: Any = ops
) -> tuple[Any, int, Callable[[Any], Any]]:
    """Split a tensor into groups; return also the size of the last one and the inverse.

    Args:
        x: a tensor, or an array.
        groups: the numbers that belong together.
        owner: the caller, named in the error.
        xp: `keras.ops`, or NumPy for an array.

    Returns:
        The tensor of shape (sizes of the other axes, groups, size), with zeros after the
        numbers of the last group; the size of the last group; the inverse of the split.

    Raises:
        ArgumentError: the number of elements of a channel is unknown.
    """
    axes, size = groups.axes, groups.size
    if None in (lengths := [x.shape[axis] for axis in axes]):
        raise ArgumentError(
            f"{owner} cannot split the shape {tuple(x.shape)} into groups of {size}: the "
            "number of elements of a channel is unknown. Give the model a shape with that "
            "number, or write granularity='channel'."
        )
    count = math.prod(lengths)
    size = min(size, max(count, 1))
    blocks = -(-count // size)
    padding = blocks * size - count
    order = groups.order(len(x.shape))
    shape = xp.shape(x)
    ordered = [shape[axis] for axis in order]
    outer = ordered[: len(order) - len(axes)]
    rows = xp.reshape(xp.transpose(x, order), [*outer, count])
    if padding:
        rows = xp.pad(rows, [*((0, 0) for _ in outer), (0, padding)])

    def join(y: Any) -> Any:
        rows = xp.reshape(y, [*outer, blocks * size])[..., :count]
        return xp.transpose(xp.reshape(rows, ordered), [int(i) for i in np.argsort(order)])

    return xp.reshape(rows, [*outer, blocks, size]), size - padding, join
