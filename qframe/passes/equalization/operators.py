"""How operations of `keras.ops` with several tensors or shapes pass a scale."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from qframe.errors import QFrameError
from qframe.passes.equalization.places import Place


def is_among(tensor: Any, values: Sequence[Any]) -> bool:
    """Return whether a tensor is one of some arguments."""
    return any(value is tensor for value in values)


def _arguments(node: Any) -> list[Any]:
    return [*node.arguments.args, *node.arguments.kwargs.values()]


def _refusal(node: Any, what: str) -> QFrameError:
    return QFrameError(f"{node.operation.name!r} {what}")


def _only(node: Any, tensor: Any, index: int) -> None:
    """Raise unless a tensor is one argument of an operation, and no other of it."""
    others = _arguments(node)
    if len(others) <= index or others.pop(index) is not tensor or is_among(tensor, others):
        raise _refusal(node, "multiplies its outputs by each other or mixes the channels")


def _einsum(node: Any, tensor: Any, place: Place) -> Place:
    operands, arrow, output = node.operation.subscripts.replace(" ", "").partition("->")
    names = operands.split(",")
    if not arrow or "." in operands:
        raise _refusal(node, "has an equation with '...' or without '->'")
    index = [each is tensor for each in node.arguments.args].index(True)
    _only(node, tensor, index)
    labels = [names[index][axis] for axis in place.axes]
    if any(names[index].count(x) != 1 or output.count(x) != 1 for x in labels):
        raise _refusal(node, "mixes the channels")
    return Place.of([output.index(label) for label in labels], place.channels)


def _matmul(node: Any, tensor: Any, place: Place) -> Place:
    rank = len(tensor.shape)
    is_second = node.arguments.args[0] is not tensor
    _only(node, tensor, int(is_second))
    summed = rank - 2 if is_second else rank - 1
    output = node.outputs[0].shape
    if len(output) != rank or summed in place.axes or not place.fits([output]):
        raise _refusal(node, "mixes the channels")
    return place


def _attention(node: Any, tensor: Any, place: Place) -> Place:
    _only(node, tensor, 2)
    # It mixes positions in time, along the second axis.
    if 1 in place.axes or not place.fits([node.outputs[0].shape]):
        raise _refusal(node, "mixes the channels")
    return place


def _divided(node: Any, tensor: Any, place: Place) -> Place:
    _only(node, tensor, 0)
    output = node.outputs[0].shape
    if len(output) != len(tensor.shape) or not place.fits([output]):
        raise _refusal(node, "repeats the channels of a tensor")
    return place


def _transposed(node: Any, tensor: Any, place: Place) -> Place:
    rank = len(tensor.shape)
    order = node.operation.axes or [*reversed(range(rank))]
    order = [axis % rank for axis in order]
    if order[0] != 0:
        raise _refusal(node, "moves the axis of the examples")
    return Place.of([order.index(axis) for axis in place.axes], place.channels)


def _repeated(node: Any, tensor: Any, place: Place) -> Place:
    axis, count = node.operation.axis, node.operation.repeats
    if axis is None or not isinstance(count, int):
        raise _refusal(node, "repeats the channels unevenly")
    axis %= len(tensor.shape)
    if axis not in place.axes:
        return place
    along = place.axes.index(axis)
    return Place(place.axes, np.repeat(place.channels, count, along))


def _chosen(node: Any, tensor: Any, place: Place) -> Place:
    condition, *parts = _arguments(node)
    constants = not all(isinstance(each, keras.KerasTensor) for each in parts)
    shapes = [tuple(getattr(each, "shape", ())) for each in (*parts, node.outputs[0])]
    ranks = {*map(len, shapes)}
    if condition is tensor or constants or len(ranks) > 1 or not place.fits(shapes):
        raise _refusal(node, "takes a constant too, or repeats the channels of a tensor")
    return place


def reshaped(node: Any, tensor: Any, place: Place, swapped: bool = False) -> Place:
    """The channels after a reshape.

    Args:
        node: its call.
        tensor: the tensor with channels.
        place: their place.
        swapped: whether the first axis after that of the examples becomes the last before.
    """
    before, after = list(tensor.shape), list(node.outputs[0].shape)
    first, start = _last_axes(before, after, 1 if swapped else place.axes[0])
    if not start:
        raise _refusal(node, "reshapes the axis of the examples, or one of unknown size")
    sizes = dict(zip(place.axes, place.channels.shape, strict=True))
    numbers = place.channels.reshape([sizes.get(i, 1) for i in range(first, len(before))])
    numbers = np.broadcast_to(numbers, before[first:])
    if swapped:
        numbers = np.moveaxis(numbers, 0, -1)
    numbers = numbers.reshape(after[start:])
    axes = [i for i in range(numbers.ndim) if (numbers != numbers.take([0], i)).any()]
    axes = axes or [numbers.ndim - 1]
    index = tuple(slice(None) if i in axes else 0 for i in range(numbers.ndim))
    return Place(tuple(start + axis for axis in axes), numbers[index])


def _last_axes(before: list[Any], after: list[Any], axis: int) -> tuple[int, int]:
    """The first of the last axes that a reshape makes of each other, in either shape.

    They have known sizes, and an axis is among those before. What is before them has its
    own order. The second number is 0 where there are none.
    """
    for first in range(axis, 0, -1):
        for start in range(len(after) - 1, 0, -1):
            sizes = before[first:], after[start:]
            known = not any(None in each for each in sizes)
            if known and np.prod(sizes[0]) == np.prod(sizes[1]):
                return first, start
    return 0, 0


# By the name of the class of an operation.
PASSED: Mapping[str, Callable[[Any, Any, Place], Place]] = {
    "Divide": _divided,
    "DotProductAttention": _attention,
    "Einsum": _einsum,
    "Matmul": _matmul,
    "Repeat": _repeated,
    "Reshape": reshaped,
    "Transpose": _transposed,
    "TrueDivide": _divided,
    "Where": _chosen,
}
# Which argument of an operation has the scale of its output; the first of others.
SOURCE: Mapping[str, int] = {
    "DotProductAttention": 2,
    "Einsum": -1,
    "Matmul": 1,
    "Where": 1,
}
