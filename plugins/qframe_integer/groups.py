"""Numbers in groups, one after the other in each channel."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from keras import ops

from qframe.errors import ArgumentError
from qframe.quantizers import Groups


def split(
    x: Any, groups: Groups, owner: str, of: Any = ops
) -> tuple[Any, int, Callable[[Any], Any]]:
    """A tensor by groups, how many numbers the last of them has, and the way back.

    Args:
        x: a tensor, or an array.
        groups: which numbers are together.
        owner: who asks, for the error.
        of: `keras.ops`, or NumPy for an array.

    Returns:
        The tensor of shape (sizes of the other axes, groups, size), with zeros after the
        numbers of the last group.

    Raises:
        ArgumentError: it is not known how many numbers there are.
    """
    axes, size = groups.axes, groups.size
    if None in (lengths := [x.shape[axis] for axis in axes]):
        raise ArgumentError(
            f"{owner} cannot split the shape {tuple(x.shape)} into groups of {size}: how "
            "many numbers a channel has is not known. Give the model a shape with that "
            "number, or write granularity='channel'."
        )
    count = math.prod(lengths)
    size = min(size, max(count, 1))
    blocks = -(-count // size)
    spare = blocks * size - count
    order = groups.order(len(x.shape))
    shape = of.shape(x)
    moved = [shape[axis] for axis in order]
    others = moved[: len(order) - len(axes)]
    rows = of.reshape(of.transpose(x, order), [*others, count])
    if spare:
        rows = of.pad(rows, [*((0, 0) for _ in others), (0, spare)])

    def back(y: Any) -> Any:
        rows = of.reshape(y, [*others, blocks * size])[..., :count]
        return of.transpose(of.reshape(rows, moved), [int(i) for i in np.argsort(order)])

    return of.reshape(rows, [*others, blocks, size]), size - spare, back
