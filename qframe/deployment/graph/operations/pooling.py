"""Images of another size: the largest number or the mean of windows, and between pixels."""

from __future__ import annotations

from typing import Any, ClassVar

import attrs

from qframe.deployment.graph.fields import ChoiceField, of
from qframe.deployment.graph.operations.base import (
    DIRECTION,
    PADS,
    SIZES,
    Operation,
    check_channels,
    check_floats,
    check_image,
    check_signs,
    window_counts,
)
from qframe.deployment.graph.values import Value
from qframe.errors import DataError


@attrs.frozen(eq=False)
class _Pool(Operation):
    pool: tuple[int, int] = attrs.field(default=(2, 2), metadata=of(SIZES))
    strides: tuple[int, int] = attrs.field(default=(2, 2), metadata=of(SIZES))
    pads: tuple[int, int, int, int] = attrs.field(default=(0, 0, 0, 0), metadata=of(PADS))

    def infer(self, *inputs: Value) -> Value:
        (x,) = inputs
        return Value(
            (*window_counts(x, self.pool, self.strides, self.pads), x.shape[2]), x.grid
        )


@attrs.frozen(eq=False)
class MaxPool(_Pool):
    """The largest of a window, the smallest if `direction` is -1: OR and AND of bits."""

    name: ClassVar[str] = "max_pool"
    direction: Any = attrs.field(default=None, metadata=of(DIRECTION))

    def infer(self, *inputs: Value) -> Value:
        check_channels(self.direction, inputs[0])
        check_signs(self.direction)
        return super().infer(*inputs)


@attrs.frozen(eq=False)
class AveragePool(_Pool):
    """The mean of a window, without its padding."""

    name: ClassVar[str] = "average_pool"

    def infer(self, *inputs: Value) -> Value:
        check_floats(*inputs)
        return super().infer(*inputs)


@attrs.frozen(eq=False)
class GlobalPool(Operation):
    """The largest number or the mean of each channel."""

    name: ClassVar[str] = "global_pool"
    function: str = attrs.field(metadata=of(ChoiceField(("max", "average"))))

    def infer(self, *inputs: Value) -> Value:
        (x,) = inputs
        if self.function == "average":
            check_floats(x)
        if len(x.shape) < 2:
            raise DataError(f"an image has 3 axes, found the shape {list(x.shape)}")
        return Value(x.shape[-1:], x.grid)


@attrs.frozen(eq=False)
class Resize(Operation):
    """An image of another size, bilinear between the centers of its pixels."""

    name: ClassVar[str] = "resize"
    size: tuple[int, int] = attrs.field(metadata=of(SIZES))

    def infer(self, *inputs: Value) -> Value:
        (x,) = inputs
        check_floats(x)
        check_image(x)
        return Value((*self.size, x.shape[2]))
