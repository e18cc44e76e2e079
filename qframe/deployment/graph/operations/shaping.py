"""Operations that move, join, repeat or choose numbers and change none."""

from __future__ import annotations

import math
from typing import ClassVar

import attrs

from qframe.deployment.graph.fields import IntegerField, of
from qframe.deployment.graph.operations.base import PADS, Operation, check_image
from qframe.deployment.graph.values import LARGEST, Value, same_numbers
from qframe.errors import DataError

_RANKS = range(1, 8)


@attrs.frozen(eq=False)
class Concatenate(Operation):
    """Several tensors of one kind, side by side along an axis that is not the batch."""

    name: ClassVar[str] = "concatenate"
    arity: ClassVar[int | None] = None
    axis: int = attrs.field(metadata=of(IntegerField(1, 8)))

    def infer(self, *inputs: Value) -> Value:
        first, at = inputs[0], self.axis - 1
        others = {(*x.shape[:at], *x.shape[at + 1 :]) for x in inputs}
        ranks = {len(x.shape) for x in inputs}
        if len(others) > 1 or len(ranks) > 1 or at >= len(first.shape):
            raise DataError(f"shapes {[list(x.shape) for x in inputs]} do not match")
        if any(not same_numbers(x, first) for x in inputs):
            raise DataError("its inputs hold different kinds of numbers")
        size = sum(x.shape[at] for x in inputs)
        return Value((*first.shape[:at], size, *first.shape[at + 1 :]), first.grid)


@attrs.frozen(eq=False)
class Reshape(Operation):
    """The same numbers in another shape."""

    name: ClassVar[str] = "reshape"
    shape: tuple[int, ...] = attrs.field(metadata=of(IntegerField(1, LARGEST, _RANKS)))

    def infer(self, *inputs: Value) -> Value:
        (x,) = inputs
        if math.prod(self.shape) != math.prod(x.shape):
            raise DataError(f"{list(x.shape)} does not fit {list(self.shape)}")
        return Value(self.shape, x.grid)


@attrs.frozen(eq=False)
class Pad(Operation):
    """Zeros around an image."""

    name: ClassVar[str] = "pad"
    pads: tuple[int, int, int, int] = attrs.field(metadata=of(PADS))

    def infer(self, *inputs: Value) -> Value:
        (x,) = inputs
        check_image(x)
        span = x.span
        if span is not None and not (
            span.low <= 0 <= span.high and span.low % span.step == 0
        ):
            raise DataError(f"0 is not among the integers from {span.low} to {span.high}")
        top, bottom, left, right = self.pads
        shape = x.shape[0] + top + bottom, x.shape[1] + left + right, x.shape[2]
        return Value(shape, x.grid)


@attrs.frozen(eq=False)
class Slice(Operation):
    """Every `steps`-th number from `starts` on, `sizes` of them, along each axis."""

    name: ClassVar[str] = "slice"
    starts: tuple[int, ...] = attrs.field(metadata=of(IntegerField(0, LARGEST, _RANKS)))
    sizes: tuple[int, ...] = attrs.field(metadata=of(IntegerField(1, LARGEST, _RANKS)))
    steps: tuple[int, ...] = attrs.field(metadata=of(IntegerField(1, LARGEST, _RANKS)))

    def infer(self, *inputs: Value) -> Value:
        (x,) = inputs
        parts = self.starts, self.sizes, self.steps
        if any(len(part) != len(x.shape) for part in parts):
            raise DataError(f"it slices {len(self.sizes)} axes of {list(x.shape)}")
        for start, size, step, full in zip(*parts, x.shape, strict=True):
            if start + (size - 1) * step >= full:
                raise DataError(f"a slice reaches beyond the shape {list(x.shape)}")
        return Value(self.sizes, x.grid)


@attrs.frozen(eq=False)
class Transpose(Operation):
    """The same numbers with the axes in another order; axis 0 is the batch."""

    name: ClassVar[str] = "transpose"
    axes: tuple[int, ...] = attrs.field(metadata=of(IntegerField(1, 8, _RANKS)))

    def infer(self, *inputs: Value) -> Value:
        (x,) = inputs
        if sorted(self.axes) != list(range(1, len(x.shape) + 1)):
            raise DataError(
                f"the axes {list(self.axes)} are not those of the shape {list(x.shape)}"
            )
        return Value(tuple(x.shape[axis - 1] for axis in self.axes), x.grid)


@attrs.frozen(eq=False)
class Repeat(Operation):
    """Each number `count` times along an axis, one after another; axis 0 is the batch."""

    name: ClassVar[str] = "repeat"
    axis: int = attrs.field(metadata=of(IntegerField(1, 8)))
    count: int = attrs.field(metadata=of(IntegerField(1, LARGEST)))

    def infer(self, *inputs: Value) -> Value:
        (x,), at = inputs, self.axis - 1
        if at >= len(x.shape):
            raise DataError(f"it repeats along axis {self.axis} of {list(x.shape)}")
        size = x.shape[at] * self.count
        return Value((*x.shape[:at], size, *x.shape[at + 1 :]), x.grid)
