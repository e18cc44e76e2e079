"""Functions of each number of one tensor or of several."""

from __future__ import annotations

from typing import Any, ClassVar

import attrs
import numpy as np

from qframe.deployment.graph.fields import ArrayField, ChoiceField, NumberField, of
from qframe.deployment.graph.operations.base import Operation, check_channels, check_floats
from qframe.deployment.graph.values import Value
from qframe.errors import DataError


@attrs.frozen(eq=False)
class Affine(Operation):
    """``x * scale + shift`` in float32, one number each or one for each channel."""

    name: ClassVar[str] = "affine"
    scale: Any = attrs.field(default=None, metadata=of(ArrayField(range(2), optional=True)))
    shift: Any = attrs.field(default=None, metadata=of(ArrayField(range(2), optional=True)))

    def infer(self, *inputs: Value) -> Value:
        (x,) = inputs
        for array in (self.scale, self.shift):
            check_channels(array, x)
        return Value(x.shape)


FUNCTIONS = (
    *("absolute", "clip", "elu", "exponential", "gelu", "gelu_tanh", "hard_sigmoid"),
    *("hard_silu", "hard_tanh", "leaky_tanh", "mish", "relu", "sigmoid", "silu", "softmax"),
    *("softplus", "softsign", "sqrt", "square", "tanh"),
)


@attrs.frozen(eq=False)
class Activation(Operation):
    """A function of each number, or of each row if it is softmax.

    `alpha` is the slope of relu below `threshold`, that of leaky_tanh beyond 1, and the
    factor of elu. `least` and `most` are the ends of clip, `most` also that of relu.
    gelu_tanh is the approximation of gelu by tanh.
    """

    name: ClassVar[str] = "activation"
    function: str = attrs.field(metadata=of(ChoiceField(FUNCTIONS)))
    alpha: float = attrs.field(default=0.0, metadata=of(NumberField()))
    most: float | None = attrs.field(default=None, metadata=of(NumberField(optional=True)))
    threshold: float = attrs.field(default=0.0, metadata=of(NumberField()))
    least: float | None = attrs.field(default=None, metadata=of(NumberField(optional=True)))

    def infer(self, *inputs: Value) -> Value:
        check_floats(*inputs)
        return inputs[0]


@attrs.frozen(eq=False)
class PReLU(Operation):
    """``x`` if it is above 0, else ``alpha * x``."""

    name: ClassVar[str] = "prelu"
    alpha: Any = attrs.field(metadata=of(ArrayField(range(1, 8))))

    def infer(self, *inputs: Value) -> Value:
        check_floats(*inputs)
        _broadcast(inputs[0].shape, self.alpha.shape, into=inputs[0].shape)
        return inputs[0]


@attrs.frozen(eq=False)
class Merge(Operation):
    """Several tensors, number by number."""

    name: ClassVar[str] = "merge"
    arity: ClassVar[int | None] = None
    function: str = attrs.field(
        metadata=of(
            ChoiceField(
                (
                    *("add", "subtract", "multiply", "divide"),
                    *("maximum", "minimum", "average"),
                )
            )
        )
    )

    def infer(self, *inputs: Value) -> Value:
        check_floats(*inputs)
        if self.function in ("subtract", "divide") and len(inputs) != 2:
            raise DataError(f"to {self.function} takes two tensors, found {len(inputs)}")
        return Value(_broadcast(*(x.shape for x in inputs)))


def _broadcast(*shapes: tuple[int, ...], into: Any = None) -> tuple[int, ...]:
    try:
        common = np.broadcast_shapes(*shapes)
        if len({len(shape) for shape in shapes}) > 1 or common != (into or common):
            raise ValueError("the ranks or the sizes differ")
    except ValueError as error:
        raise DataError(f"shapes {[list(s) for s in shapes]} do not match") from error
    return tuple(common)
