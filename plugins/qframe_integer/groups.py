"""Numbers in groups along the axis before that of the channels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from keras import ops

from qframe.errors import ArgumentError
from qframe.quantizers import axes_within_channels


def _axis(rank: int, channel_axis: Any) -> int:
    """The axis that is split: the last one without channels."""
    others = axes_within_channels(rank, channel_axis)
    return others[-1] if others else -1


def axes(rank: int, channel_axis: Any) -> tuple[int, ...]:
    """The axes along which numbers share a range, in a tensor that is split."""
    return (_axis(rank, channel_axis) + 1,) if rank else ()


def _shapes(shape: Any, channel_axis: Any, size: Any, owner: str) -> tuple[Any, int]:
    axis = _axis(len(shape), channel_axis)
    if axis < 0 or shape[axis] is None or shape[axis] % size:
        length = None if axis < 0 else shape[axis]
        raise ArgumentError(
            f"{owner} cannot split the shape {tuple(shape)} into groups of {size}: the "
            f"axis before the channels has the length {length}. Give a group_size that "
            "divides it, or write granularity='channel'."
        )
    return [*shape[:axis], shape[axis] // size, size, *shape[axis + 1 :]], axis


def split(
    x: Any, channel_axis: Any, size: Any, owner: str
) -> tuple[Any, Callable[[Any], Any]]:
    """A tensor with an axis more, and the way back; raises where groups do not fit."""
    shape = tuple(x.shape)
    apart, _ = _shapes(shape, channel_axis, size, owner)
    return ops.reshape(x, apart), lambda y: ops.reshape(y, shape)


def reference_split(x: Any, channel_axis: Any, size: Any) -> Any:
    """`split` for NumPy."""
    apart, _ = _shapes(x.shape, channel_axis, size, "Integer")
    return x.reshape(apart), lambda y: y.reshape(x.shape)
