"""Elementwise functions of an epilogue, as LLVM vector code."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import attrs
import numpy as np
from llvmlite import ir
from numpy.typing import NDArray

from qframe.deployment.graph import operations
from qframe_packed.compiled.memory import Buffer, aligned
from qframe_packed.compiled.parameters import Address, Parameters
from qframe_packed.compiled.vectors import (
    emitter,
    integer,
    load,
    over_channels,
    over_rows,
    store,
    whole_vectors,
)

Array = NDArray[Any]
# The only number that changes no other one, and no zero, when it is added.
NO_SHIFT = -0.0


def _at_most(b: Any, x: Any, highest: Any) -> Any:
    return b.select(b.fcmp_ordered(">", x, highest), highest, x)


def _above(b: Any, x: Any, edge: Any, below: Any) -> Any:
    return b.select(b.fcmp_ordered(">", x, edge), x, below)


def _relu(b: Any, x: Any, threshold: Any, highest: Any) -> Any:
    return _at_most(b, _above(b, x, threshold, ir.Constant(x.type, None)), highest)


def _leaky_relu(b: Any, x: Any, threshold: Any, highest: Any, alpha: Any) -> Any:
    below = b.fmul(alpha, b.fsub(x, threshold))
    return _at_most(b, _above(b, x, threshold, below), highest)


def _constant(x: Any, number: float) -> Any:
    return ir.Constant(x.type, [number] * x.type.count)


def _clip(b: Any, x: Any, low: Any, high: Any) -> Any:
    return _at_most(b, b.select(b.fcmp_ordered("<", x, low), low, x), high)


def _hard_tanh(b: Any, x: Any) -> Any:
    return _clip(b, x, _constant(x, -1.0), _constant(x, 1.0))


def _hard_sigmoid(b: Any, x: Any) -> Any:
    line = b.fadd(b.fdiv(x, _constant(x, 6.0)), _constant(x, 0.5))
    return _clip(b, line, _constant(x, 0.0), _constant(x, 1.0))


def _extreme(b: Any, x: Any, other: Any, sign: str) -> Any:
    """The larger or the smaller number; NaN if one of both is."""
    chosen = b.or_(b.fcmp_ordered(sign, x, other), b.fcmp_unordered("uno", x, x))
    return b.select(chosen, x, other)


def _leaky_tanh(b: Any, x: Any, alpha: Any) -> Any:
    inside = _hard_tanh(b, x)
    return b.fadd(inside, b.fmul(alpha, b.fsub(x, inside)))


def _prelu(b: Any, x: Any, alpha: Any) -> Any:
    zero = ir.Constant(x.type, None)
    # A zero of the product is added to another one, and has no sign after that.
    return _above(b, x, zero, b.fadd(b.fmul(alpha, x), zero))


# Functions by name, which emit the result for a vector `x` and up to three operands.
FUNCTIONS: dict[str, Callable[..., Any]] = {
    "affine": lambda b, x, scale, shift: b.fadd(b.fmul(x, scale), shift),
    "relu": _relu,
    "leaky_relu": _leaky_relu,
    "clip": _clip,
    "hard_sigmoid": _hard_sigmoid,
    "hard_silu": lambda b, x: b.fmul(x, _hard_sigmoid(b, x)),
    "hard_tanh": _hard_tanh,
    "leaky_tanh": _leaky_tanh,
    "prelu": _prelu,
    "add": lambda b, x, other: b.fadd(x, other),
    "subtract": lambda b, x, other: b.fsub(x, other),
    "subtract_from": lambda b, x, other: b.fsub(other, x),
    "multiply": lambda b, x, other: b.fmul(x, other),
    "divide": lambda b, x, other: b.fdiv(x, other),
    "divide_from": lambda b, x, other: b.fdiv(other, x),
    "maximum": lambda b, x, other: _extreme(b, x, other, ">="),
    "minimum": lambda b, x, other: _extreme(b, x, other, "<="),
    "average": lambda b, total, count: b.fdiv(total, count),
}
# Functions whose operand is a tensor.
MERGES = (
    *("add", "subtract", "subtract_from", "multiply", "divide", "divide_from"),
    *("maximum", "minimum"),
)


def _body(name: str, function: Callable[..., Any]) -> Any:
    """The emitter of the stage for a function."""

    def emit(
        b: Any, values: Any, width: Any, first: Any, size: Any, channels: Any, p: Any
    ) -> None:
        stride = b.mul(width, integer(4))

        def merge(kind: Any, index: Any) -> None:
            def row(x: Any, y: Any) -> None:
                store(b, function(b, load(b, kind, x), load(b, kind, y)), x)

            offset = b.mul(index, integer(4))
            over_rows(
                b,
                size,
                (b.add(values, offset), b.add(tensor, offset)),
                (stride, pixel_bytes),
                row,
            )

        def change(kind: Any, index: Any) -> None:
            offset = b.mul(index, integer(4))
            # They are the same for each row, and stay in registers.
            operands = [load(b, kind, b.add(address, offset)) for address in addresses]

            def row(x: Any) -> None:
                store(b, function(b, load(b, kind, x), *operands), x)

            over_rows(b, size, (b.add(values, offset),), (stride,), row)

        if name in MERGES:
            pixel_bytes = p.pixel_bytes
            tensor = b.add(p.first, b.mul(first, pixel_bytes))
            over_channels(b, channels, merge)
        else:
            count = len(inspect.signature(function).parameters) - 2
            addresses = (p.first, p.second, p.third)[:count]
            over_channels(b, whole_vectors(b, channels), change)

    emit.__qualname__ = name
    return emitter(emit)


_BODIES = {name: _body(name, function) for name, function in FUNCTIONS.items()}


@attrs.frozen(eq=False)
class Elementwise(Parameters):
    """A stage that applies a function to each number."""

    place: int  # of its function in FUNCTIONS
    pixel_bytes: int  # of a tensor that is the operand; 0 without one
    first: Address = 0  # operands: a number for each channel, or a tensor
    second: Address = 0
    third: Address = 0

    @classmethod
    def of(cls, name: str, *operands: Any, pixel_bytes: int = 0) -> Elementwise:
        """The stage for a function and its operands."""
        return cls([*FUNCTIONS].index(name), pixel_bytes, *operands)

    @property
    def label(self) -> str:
        return [*FUNCTIONS][self.place]

    @property
    def term(self) -> Buffer | None:
        """The tensor that is an operand."""
        return self.first if isinstance(self.first, Buffer) else None

    @property
    def body(self) -> Any:
        return _BODIES[self.label]


def stages_of(operation: Any, width: int) -> list[Parameters] | None:
    """Stages for an operation on one tensor, in rows of `width`; None where it has none."""
    match operation:
        case operations.Affine(scale=None, shift=None):
            # It makes integers floats, which they are in an epilogue.
            return []
        case operations.Affine(scale=scale, shift=shift):
            parts = row(scale, width, 1), row(shift, width, NO_SHIFT)
            return [Elementwise.of("affine", *parts)]
        case operations.PReLU(alpha=alpha) if alpha.size == alpha.shape[-1]:
            return [Elementwise.of("prelu", row(alpha.reshape(-1), width))]
        case operations.Activation(function="relu", alpha=alpha, most=most, threshold=edge):
            ends = row(edge, width), row(_or_infinite(most), width)
            if alpha == 0:
                return [Elementwise.of("relu", *ends)]
            return [Elementwise.of("leaky_relu", *ends, row(alpha, width))]
        case operations.Activation(function="leaky_tanh", alpha=alpha):
            return [Elementwise.of("leaky_tanh", row(alpha, width))]
        case operations.Activation(function="clip", least=least, most=most):
            low, high = (-np.inf if least is None else least), _or_infinite(most)
            return [Elementwise.of("clip", row(low, width), row(high, width))]
        case operations.Activation(function="hard_sigmoid" | "hard_silu" | "hard_tanh"):
            return [Elementwise.of(operation.function)]
    return None


def _or_infinite(most: float | None) -> float:
    return np.inf if most is None else most


def row(numbers: Any, width: int, default: float = 0) -> Array:
    """One number, or one for each channel, padded to whole vectors."""
    array = np.asarray(default if numbers is None else numbers, np.float32)
    padded = aligned((width,), np.float32)
    padded[:] = default
    padded[: array.size if array.size > 1 else width] = array
    return padded
