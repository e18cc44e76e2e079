"""From floats to integers, and back."""

from __future__ import annotations

from typing import Any, ClassVar

import attrs
import numpy as np

from qframe.deployment.graph.fields import ArrayField, IntegerField, NumberField, of
from qframe.deployment.graph.operations.base import (
    DIRECTION,
    Operation,
    check_channels,
    check_floats,
    check_signs,
)
from qframe.deployment.graph.values import LARGEST, Grid, Value
from qframe.errors import DataError

_MOST_LEVELS = 2**16
_LEVEL = IntegerField(-_MOST_LEVELS, _MOST_LEVELS)
_FLOAT32 = NumberField(most=float(np.finfo(np.float32).max))
# Finite numbers reach all levels, so that thresholds can replace them.
_MOST_STEP = 2.0**110


@attrs.frozen(eq=False)
class Quantize(Operation):
    """``low + step * n``, where n thresholds are at most ``x * direction``.

    The thresholds ascend. They are (n,), or (n, channels), and floats if x is float. No
    number reaches a threshold of infinity, and every number one of -infinity. `scale`,
    `zero_point` and `rounding` are those of the grid; `low` counts from the zero point.
    """

    name: ClassVar[str] = "quantize"
    thresholds: Any = attrs.field(metadata=of(ArrayField(range(1, 3), "fi", finite=False)))
    direction: Any = attrs.field(default=None, metadata=of(DIRECTION))
    low: int = attrs.field(default=-1, metadata=of(IntegerField(-LARGEST, LARGEST)))
    step: int = attrs.field(default=2, metadata=of(IntegerField(1, LARGEST)))
    scale: float = 1.0
    zero_point: int = 0
    rounding: str | None = None

    @property
    def grid(self) -> Grid:
        """The grid of the result."""
        low = self.low + self.zero_point
        high = low + self.step * len(self.thresholds)
        return Grid(low, high, self.step, self.scale, self.zero_point, self.rounding)

    def infer(self, *inputs: Value) -> Value:
        (x,) = inputs
        floats = self.thresholds.dtype.kind == "f"
        if floats is not (x.grid is None):
            raise DataError("its thresholds are floats and its input is not, or vice versa")
        if self.thresholds.ndim == 2:
            check_channels(self.thresholds, x)
        check_channels(self.direction, x)
        check_signs(self.direction)
        if (self.thresholds[1:] < self.thresholds[:-1]).any():
            raise DataError("its thresholds do not ascend")
        return Value(x.shape, self.grid)


@attrs.frozen(eq=False)
class Round(Operation):
    """``clip(rint(x * factor / divisor), low, high)`` in float32.

    A number halfway between integers goes to the even one, and NaN to `low`. Both numbers
    are positive and float32.
    """

    name: ClassVar[str] = "round"
    low: int = attrs.field(metadata=of(_LEVEL))
    high: int = attrs.field(metadata=of(_LEVEL))
    divisor: float = attrs.field(default=1.0, metadata=of(_FLOAT32))
    factor: float = attrs.field(default=1.0, metadata=of(_FLOAT32))

    def infer(self, *inputs: Value) -> Value:
        (x,) = inputs
        check_floats(x)
        if not 0 < self.high - self.low < _MOST_LEVELS:
            raise DataError(
                f"it rounds to 2 to {_MOST_LEVELS} integers, found {self.low} to "
                f"{self.high}"
            )
        for number in (self.divisor, self.factor):
            if not 0 < number == float(np.float32(number)) < np.inf:
                raise DataError(
                    f"it multiplies and divides by positive float32 numbers, found {number}"
                )
        if self.divisor > self.factor * _MOST_STEP:
            raise DataError(f"its steps are larger than {_MOST_STEP:.3g}")
        return Value(x.shape, Grid(self.low, self.high))


@attrs.frozen(eq=False)
class Dequantize(Operation):
    """The real numbers of integers: ``x * scale``, counted from the zero point."""

    name: ClassVar[str] = "dequantize"
    scale: Any = attrs.field(default=1.0)

    def infer(self, *inputs: Value) -> Value:
        (x,) = inputs
        if x.grid is None:
            raise DataError("it takes integers, found floats")
        return Value(x.shape)
