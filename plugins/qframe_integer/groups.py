"""Numbers in groups along the axis before that of the channels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from keras import ops

from qframe.errors import ArgumentError
from qframe.quantizers import axes_within_channels


def split(
    x: Any, channel_axis: Any, size: Any, owner: str, reshape: Any = ops.reshape
) -> tuple[Any, tuple[int, ...], Callable[[Any], Any]]:
    """A tensor with an axis more, the axis along which its groups are, and the way back.

    Args:
        x: a tensor, or an array.
        channel_axis: the axis or axes of its channels.
        size: how many numbers are in a group.
        owner: who asks, for the error.
        reshape: that of keras.ops, or of NumPy for an array.

    Raises:
        ArgumentError: groups of this size do not fit.
    """
    others = axes_within_channels(len(x.shape), channel_axis)
    # A channel of one number, as that of a bias, has no axis: its length is 1.
    axis = others[-1] if others else 0
    known = tuple(x.shape) if others else (1, *x.shape)
    length = known[axis]
    if length is None or length % size:
        raise ArgumentError(
            f"{owner} cannot split the shape {tuple(x.shape)} into groups of {size}: the "
            f"axis before the channels has the length {length}. Give a group_size that "
            "divides it, or write granularity='channel'."
        )
    shape = ops.shape(x)
    sizes = shape if others else (1, *shape)
    apart = [*sizes[:axis], length // size, size, *sizes[axis + 1 :]]
    return reshape(x, apart), (axis + 1,), lambda y: reshape(y, shape)
