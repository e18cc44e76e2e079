"""The base of all operations, and what several of them check."""

from __future__ import annotations

from typing import Any, ClassVar

import attrs
import numpy as np

from qframe.deployment.graph.fields import ArrayField, IntegerField
from qframe.deployment.graph.kernels import is_integer
from qframe.deployment.graph.values import Value
from qframe.errors import DataError

_MOST = 2**16
SIZES = IntegerField(1, _MOST, 2)
# Top, bottom, left, right.
PADS = IntegerField(0, _MOST, 4)
# Top, left.
CROPS = IntegerField(0, _MOST, 2)
DIRECTION = ArrayField(range(1, 2), "i", optional=True)


@attrs.frozen(eq=False)
class Operation:
    """An operation on tensors, with its weights and settings."""

    name: ClassVar[str]
    # The number of inputs; None for two or more.
    arity: ClassVar[int | None] = 1

    def infer(self, *inputs: Value) -> Value:
        """The shape and grid of the result; raises `DataError` for unfit inputs."""
        raise NotImplementedError

    @property
    def weight_bits(self) -> int | None:
        """The bits of a weight; None without a kernel."""
        kernel = getattr(self, "kernel", None)
        if kernel is None:
            return None
        return kernel.span.bits if is_integer(kernel) else 8 * int(kernel.dtype.itemsize)


def window_counts(
    x: Value, reach: tuple[int, ...], strides: tuple[int, ...], pads: tuple[int, ...]
) -> tuple[int, int]:
    """The number of positions of a window in each direction."""
    check_image(x)
    counts = []
    for axis in (0, 1):
        before, after = pads[2 * axis : 2 * axis + 2]
        if max(before, after) >= reach[axis]:
            raise DataError(
                f"padding of {max(before, after)} leaves windows of {reach[axis]} empty"
            )
        last = x.shape[axis] + before + after - reach[axis]
        if last < 0:
            raise DataError(f"a window of {reach[axis]} does not fit {list(x.shape)}")
        counts.append(last // strides[axis] + 1)
    return counts[0], counts[1]


def check_image(x: Value) -> None:
    """Raise `DataError` unless a tensor has the axes of an image."""
    if len(x.shape) != 3:
        raise DataError(f"an image has 3 axes, found the shape {list(x.shape)}")


def check_floats(*values: Value) -> None:
    """Raise `DataError` for a tensor of integers."""
    if any(value.grid is not None for value in values):
        raise DataError("it takes floats, found integers")


def check_channels(array: Any, x: Value) -> None:
    """Raise `DataError` unless an array has one number, or one for each channel."""
    if array is not None and array.ndim and array.shape[-1] != x.shape[-1]:
        raise DataError(
            f"it has numbers for {array.shape[-1]} channels, and {x.shape[-1]} come in"
        )


def check_signs(direction: Any) -> None:
    """Raise `DataError` for a direction other than 1 and -1."""
    if direction is not None and not np.isin(direction, (-1, 1)).all():
        raise DataError("a direction is 1 or -1")
