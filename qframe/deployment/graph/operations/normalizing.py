"""Numbers divided by their own deviation."""

from __future__ import annotations

from typing import ClassVar

import attrs

from qframe.deployment.graph.fields import ChoiceField, IntegerField, NumberField, of
from qframe.deployment.graph.operations.base import Operation, check_floats
from qframe.deployment.graph.values import Value
from qframe.errors import DataError


@attrs.frozen(eq=False)
class Normalize(Operation):
    """Numbers divided by their deviation along some axes; axis 0 is the batch.

    ``(x - mean) / sqrt(variance + epsilon)`` if `function` is "standard", and
    ``x / sqrt(mean(x^2) + epsilon)`` if it is "rms".
    """

    name: ClassVar[str] = "normalize"
    axes: tuple[int, ...] = attrs.field(metadata=of(IntegerField(1, 8, range(1, 8))))
    epsilon: float = attrs.field(metadata=of(NumberField()))
    function: str = attrs.field(
        default="standard", metadata=of(ChoiceField(("standard", "rms")))
    )

    def infer(self, *inputs: Value) -> Value:
        (x,) = inputs
        check_floats(x)
        if len({*self.axes}) < len(self.axes) or max(self.axes) > len(x.shape):
            raise DataError(f"it normalizes axes {list(self.axes)} of {list(x.shape)}")
        if self.epsilon < 0:
            raise DataError(f"epsilon is at least 0, found {self.epsilon}")
        return x
