"""Functions of float32 numbers, by one operator or several."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from qframe.deployment.graph.operations import Activation
from qframe.deployment.graph.values import Value
from qframe_litert.model import Options
from qframe_litert.writer import Writer, Written

_OPTIONS = {"MAXIMUM": "MaximumMinimumOptions", "MINIMUM": "MaximumMinimumOptions"}
_RELU6 = 6


def of_one(writer: Writer, code: str, x: Written, **fields: Any) -> Written:
    """Write a function of each number; the fields are those of its options."""
    name = "".join(part.capitalize() for part in code.split("_"))
    options = Options(f"{name}Options", fields) if fields else None
    return writer.emit(code, (x.index,), x.value, options)


def of_two(writer: Writer, code: str, x: Written, y: Any) -> Written:
    """Write a function of a tensor and another one, or constants."""
    shape = x.shape
    if isinstance(y, Written):
        index, shape = y.index, np.broadcast_shapes(x.shape, y.shape)
    else:
        index = writer.constant(f"{code.lower()}/number", np.atleast_1d(y), "float32")
    options = Options(_OPTIONS.get(code) or f"{code.capitalize()}Options")
    return writer.emit(code, (x.index, index), Value(shape), options)


def choose(
    writer: Writer, code: str, x: Written, than: Any, choices: tuple[int, int], value: Value
) -> Written:
    """Write one of two tensors, by a comparison of each number with constants.

    Args:
        writer: writes the operators.
        code: the comparison.
        x: what is compared.
        than: the constants.
        choices: the tensors where the comparison is true, and where it is not.
        value: the result.
    """
    name = "".join(part.capitalize() for part in code.split("_"))
    number = writer.constant(f"{code.lower()}/number", np.atleast_1d(than), "float32")
    true = writer.activation(code.lower(), Value(x.shape), "bool").index
    writer.operator(code, (x.index, number), true, Options(f"{name}Options"))
    inputs = true, *choices
    return writer.emit("SELECT_V2", inputs, value, Options("SelectV2Options"))


def activation(writer: Writer, operation: Activation, x: Written) -> Written:
    """Write an activation of floats."""
    return _FUNCTIONS[operation.function](writer, operation, x)


def _relu(writer: Writer, operation: Activation, x: Written) -> Written:
    edge, slope, most = operation.threshold, operation.alpha, operation.most
    if edge:
        below = of_two(writer, "MUL", of_two(writer, "SUB", x, edge), slope)
        y = choose(writer, "GREATER", x, edge, (x.index, below.index), x.value)
    elif slope:
        y = of_one(writer, "LEAKY_RELU", x, Alpha=slope)
    elif most == _RELU6:
        return of_one(writer, "RELU6", x)
    else:
        y = of_one(writer, "RELU", x)
    return y if most is None else of_two(writer, "MINIMUM", y, most)


def _clip(writer: Writer, operation: Activation, x: Written) -> Written:
    for code, end in (("MAXIMUM", operation.least), ("MINIMUM", operation.most)):
        x = x if end is None else of_two(writer, code, x, end)
    return x


def _elu(writer: Writer, operation: Activation, x: Written) -> Written:
    if operation.alpha == 1:
        return of_one(writer, "ELU", x)
    below = of_one(writer, "ELU", of_two(writer, "MINIMUM", x, 0.0))
    below = of_two(writer, "MUL", below, operation.alpha)
    return of_two(writer, "ADD", of_one(writer, "RELU", x), below)


def _hard_sigmoid(writer: Writer, operation: Activation, x: Written) -> Written:
    shifted = of_two(writer, "ADD", x, 3.0)
    return of_two(writer, "MUL", of_one(writer, "RELU6", shifted), 1 / 6)


def _leaky_tanh(writer: Writer, operation: Activation, x: Written) -> Written:
    inside = of_one(writer, "RELU_N1_TO_1", x)
    outside = of_two(writer, "SUB", x, inside)
    return of_two(writer, "ADD", inside, of_two(writer, "MUL", outside, operation.alpha))


def _softplus(writer: Writer, operation: Activation, x: Written) -> Written:
    """``max(x, 0) + log(1 + exp(-|x|))``, in which nothing overflows."""
    far = of_one(writer, "NEG", of_one(writer, "ABS", x))
    rest = of_one(writer, "LOG", of_two(writer, "ADD", of_one(writer, "EXP", far), 1.0))
    return of_two(writer, "ADD", of_one(writer, "RELU", x), rest)


def _mish(writer: Writer, operation: Activation, x: Written) -> Written:
    slope = of_one(writer, "TANH", _softplus(writer, operation, x))
    return of_two(writer, "MUL", x, slope)


def _silu(writer: Writer, operation: Activation, x: Written) -> Written:
    return of_two(writer, "MUL", x, of_one(writer, "LOGISTIC", x))


def _softsign(writer: Writer, operation: Activation, x: Written) -> Written:
    return of_two(writer, "DIV", x, of_two(writer, "ADD", of_one(writer, "ABS", x), 1.0))


def _built_in(
    code: str, fields: Mapping[str, Any], writer: Writer, operation: Activation, x: Written
) -> Written:
    return of_one(writer, code, x, **fields)


def _by(code: str, **fields: Any) -> Callable[..., Written]:
    """A function that the runtime has an operator for."""
    return functools.partial(_built_in, code, fields)


_FUNCTIONS: Mapping[str, Callable[[Writer, Activation, Written], Written]] = {
    "absolute": _by("ABS"),
    "clip": _clip,
    "elu": _elu,
    "exponential": _by("EXP"),
    "gelu": _by("GELU", Approximate=False),
    "gelu_tanh": _by("GELU", Approximate=True),
    "hard_sigmoid": _hard_sigmoid,
    "hard_silu": _by("HARD_SWISH"),
    "hard_tanh": _by("RELU_N1_TO_1"),
    "leaky_tanh": _leaky_tanh,
    "mish": _mish,
    "relu": _relu,
    "sigmoid": _by("LOGISTIC"),
    "silu": _silu,
    "softmax": _by("SOFTMAX", Beta=1.0),
    "softplus": _softplus,
    "softsign": _softsign,
    "sqrt": _by("SQRT"),
    "square": _by("SQUARE"),
    "tanh": _by("TANH"),
}
