"""Products of two tensors, neither of which is a weight."""

from __future__ import annotations

from typing import ClassVar

import attrs

from qframe.deployment.graph.fields import NumberField, of
from qframe.deployment.graph.operations.base import Operation, check_floats
from qframe.deployment.graph.values import Value
from qframe.errors import DataError


@attrs.frozen(eq=False)
class Matmul(Operation):
    """``scale * x @ y`` of matrices (..., rows, n) and (..., n, columns) of each sample."""

    name: ClassVar[str] = "matmul"
    arity: ClassVar[int | None] = 2
    scale: float = attrs.field(default=1.0, metadata=of(NumberField()))

    def infer(self, *inputs: Value) -> Value:
        x, y = inputs
        check_floats(x, y)
        outer, size = x.shape[:-2], x.shape[-1:]
        if len(x.shape) < 2 or len(y.shape) < 2 or y.shape[:-1] != (*outer, *size):
            raise DataError(
                f"matrices of shapes {list(x.shape)} and {list(y.shape)} do not match"
            )
        return Value((*x.shape[:-1], y.shape[-1]))
