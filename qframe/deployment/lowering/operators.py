"""The lowering of operations between layers: ``a + b``, ``keras.ops.relu6(x)`` and others.

Each function takes the operation of Keras and its arguments, of which tensors are traced.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from qframe.deployment.graph.operations import Activation, Merge
from qframe.deployment.lowering.contracting import (
    Einsum,
    add_einsum,
    add_weights,
    matrix_of,
)
from qframe.deployment.lowering.functions import add_selu
from qframe.deployment.lowering.images import add_global_pool
from qframe.deployment.lowering.normalizations import add_affine
from qframe.deployment.lowering.shapes import (
    add_concatenate,
    add_reshape,
    add_slice,
    add_transpose,
)
from qframe.deployment.lowering.tracing import Traced, Tracer
from qframe.errors import QFrameError

Operator = Callable[..., Traced]


def add_operation(
    tracer: Tracer, name: str | None, op: Any, arguments: list[Any]
) -> Traced:
    """Add an operation of `keras.ops` by the name of its class.

    Raises:
        QFrameError: it has no lowering.
    """
    if name is None or name not in OPERATORS:
        raise QFrameError(
            "the target has no such operation. Replace it, or put it before or after what "
            f"is exported. These can be used: {', '.join(sorted(OPERATORS))}"
        )
    return OPERATORS[name](tracer, op, *arguments)


def _activation(operation_of: Callable[[Any], Activation]) -> Operator:
    def lowered(tracer: Tracer, op: Any, x: Traced) -> Traced:
        return tracer.add(operation_of(op), tracer.real(x))

    return lowered


def _function(name: str) -> Operator:
    return _activation(lambda op: Activation(function=name))


def _number(value: Any) -> float | None:
    if value is None:
        return None
    number = _constant(value)
    if number.ndim:
        raise QFrameError(f"it takes one number, found the shape {list(number.shape)}")
    return float(number)


def _relu_of(op: Any) -> Activation:
    most = _number(op.max_value)
    return Activation("relu", float(op.negative_slope), most, float(op.threshold))


def _softmax(tracer: Tracer, op: Any, x: Traced) -> Traced:
    if op.axis not in (-1, len(x.shape)):
        raise QFrameError(f"it runs along axis {op.axis}, and not along the last one")
    return tracer.add(Activation(function="softmax"), tracer.real(x))


def _merge(function: str) -> Operator:
    """An operator of two tensors, or of one and a constant."""

    def lowered(tracer: Tracer, op: Any, a: Any, b: Any) -> Traced:
        if isinstance(a, Traced) and isinstance(b, Traced):
            return tracer.add(Merge(function=function), tracer.real(a), tracer.real(b))
        first = isinstance(a, Traced)
        x, constant = (a, b) if first else (b, a)
        return _with_constant(tracer, function, tracer.real(x), constant, first)

    return lowered


def _with_constant(
    tracer: Tracer, function: str, x: Traced, constant: Any, first: bool
) -> Traced:
    """An operator of a tensor, which is `first` or second, and a constant."""
    c = _constant(constant)
    match function:
        case "add":
            return add_affine(tracer, x, shift=c)
        case "subtract" if first:
            return add_affine(tracer, x, shift=-c)
        case "subtract":
            return add_affine(tracer, x, np.float32(-1), c)
        case "multiply":
            return add_affine(tracer, x, c)
        case "divide" if first:
            with np.errstate(divide="ignore"):
                return add_affine(tracer, x, 1 / c)
        case "maximum" | "minimum" if c.ndim == 0:
            end = "least" if function == "maximum" else "most"
            return tracer.add(_clip(**{end: float(c)}), x)
    raise QFrameError(
        f"it is {function} of a constant and a tensor. Write the constant as the second "
        "argument, and as one number for maximum and minimum"
    )


def _constant(value: Any) -> Any:
    try:
        constant = np.asarray(value, np.float32)
    except Exception as error:
        raise QFrameError(f"its argument {value!r} is not a constant") from error
    return constant.reshape(()) if constant.size == 1 else constant


def _clip(least: float | None = None, most: float | None = None) -> Activation:
    if least == 0:
        return Activation(function="relu", most=most)
    return Activation(function="clip", least=least, most=most)


def _power(tracer: Tracer, op: Any, x: Any, exponent: Any) -> Traced:
    functions = {2: "square", 0.5: "sqrt"}
    exponent = None if isinstance(exponent, Traced) else _number(exponent)
    if not isinstance(x, Traced) or exponent not in functions:
        raise QFrameError("it is a power other than 2 and 0.5. Write it as products")
    return tracer.add(Activation(function=functions[exponent]), tracer.real(x))


def _scaled(scale: float) -> Operator:
    return lambda tracer, op, x: add_affine(tracer, x, np.float32(scale))


def _identity(tracer: Tracer, op: Any, x: Traced) -> Traced:
    return x


def _global_pool(function: str) -> Operator:
    def lowered(tracer: Tracer, op: Any, x: Traced) -> Traced:
        axes = range(len(x.shape) + 1) if op.axis is None else op.axis
        axes = sorted(axis % (len(x.shape) + 1) for axis in axes)
        if axes != list(range(1, len(x.shape))) or getattr(op, "initial", None) is not None:
            raise QFrameError(
                f"it reduces axes {axes}, and the target all but those of the batch and "
                "the channels"
            )
        return add_global_pool(tracer, x, function, bool(op.keepdims))

    return lowered


def _matmul(tracer: Tracer, op: Any, a: Any, b: Any) -> Traced:
    if not isinstance(a, Traced):
        raise QFrameError("it multiplies a constant by a tensor. Write the tensor first")
    if not isinstance(b, Traced):
        return _einsum_with_constant(tracer, "...a,ab->...b", a, b)
    if len(a.shape) != len(b.shape) or len(a.shape) < 2:
        raise QFrameError(
            f"it multiplies shapes {list(a.shape)} and {list(b.shape)} of samples, and the "
            "target matrices of one rank. Reshape them, or use keras.layers.Dot"
        )
    return add_einsum(tracer, "...ab,...bc->...ac", a, b)


def _einsum(tracer: Tracer, op: Any, operands: Any) -> Traced:
    if len(operands) != 2 or not isinstance(operands[0], Traced):
        raise QFrameError(
            f"its equation {op.subscripts!r} is not one of two tensors, or of a tensor and "
            "a constant. Write it as several"
        )
    x, y = operands
    if isinstance(y, Traced):
        return add_einsum(tracer, op.subscripts, x, y)
    return _einsum_with_constant(tracer, op.subscripts, x, y)


def _einsum_with_constant(tracer: Tracer, equation: str, x: Traced, y: Any) -> Traced:
    constant = np.asarray(_constant(y)).reshape(np.shape(y))
    sum_of = Einsum.of(equation, len(x.shape) + 1, constant.ndim)
    if len(sum_of.y) != constant.ndim:
        raise QFrameError(f"its constant has the shape {list(constant.shape)}")
    sum_of.check_weights()
    sizes = dict(zip(sum_of.y, constant.shape, strict=True))
    matrix = np.ascontiguousarray(matrix_of(sum_of, constant), tracer.target.floats)
    return add_weights(tracer, sum_of, x, matrix, sizes)


def _reshape(tracer: Tracer, op: Any, x: Traced) -> Traced:
    batch, *shape = (-1 if size is None else int(size) for size in op.newshape)
    if batch == -1 and -1 not in shape:
        return add_reshape(tracer, x, tuple(shape))
    raise QFrameError(
        f"it reshapes to {tuple(op.newshape)}. Write -1 for the batch and the size of "
        "every other axis, or use keras.layers.Reshape"
    )


def _without_ones(tracer: Tracer, op: Any, x: Traced) -> Traced:
    rank = len(x.shape) + 1
    axes = op.axis if isinstance(op.axis, (list, tuple)) else [op.axis]
    if op.axis is None or any(axis % rank == 0 for axis in axes):
        raise QFrameError("it may remove the axis of the batch. Name another axis")
    removed = {axis % rank for axis in axes}
    kept = (size for axis, size in enumerate(x.shape, 1) if axis not in removed)
    return add_reshape(tracer, x, tuple(kept))


def _with_ones(tracer: Tracer, op: Any, x: Traced) -> Traced:
    axes = op.axis if isinstance(op.axis, (list, tuple)) else [op.axis]
    rank = len(x.shape) + 1 + len(axes)
    places, sizes = {axis % rank for axis in axes}, iter(x.shape)
    if 0 in places:
        raise QFrameError("it puts an axis before the batch. Name another axis")
    shape = (1 if axis in places else next(sizes) for axis in range(1, rank))
    return add_reshape(tracer, x, tuple(shape))


def _transpose(tracer: Tracer, op: Any, x: Traced) -> Traced:
    rank = len(x.shape) + 1
    axes = range(rank)[::-1] if op.axes is None else op.axes
    batch, *others = (axis % rank for axis in axes)
    if batch:
        raise QFrameError("it moves the axis of the batch")
    return add_transpose(tracer, x, tuple(others))


def _concatenate(tracer: Tracer, op: Any, xs: list[Any]) -> Traced:
    if not all(isinstance(x, Traced) for x in xs):
        raise QFrameError("it joins a tensor and a constant")
    return add_concatenate(tracer, list(xs), op.axis)


def _item(tracer: Tracer, op: Any, x: Traced, key: Any) -> Traced:
    """``x[:, 1:, ..., 0]``: slices, integers, ``...`` and new axes behind the batch."""
    parts = list(key) if isinstance(key, (tuple, list)) else [key]
    if any(part is not None and part is not Ellipsis for part in parts):
        known = (slice, int, np.integer, type(None), type(Ellipsis))
        if not all(isinstance(part, known) for part in parts):
            raise QFrameError("it chooses numbers by a tensor or an array")
    if Ellipsis not in parts:
        parts.append(Ellipsis)
    at = next(i for i, part in enumerate(parts) if part is Ellipsis)
    used = sum(part is not None and part is not Ellipsis for part in parts)
    parts[at : at + 1] = [slice(None)] * (len(x.shape) + 1 - used)
    batch, *parts = parts
    if batch != slice(None):
        raise QFrameError("it chooses samples of the batch")
    slices, shape = [], []
    sizes = iter(x.shape)
    for part in parts:
        if part is None:
            shape.append(1)
            continue
        size = next(sizes)
        if isinstance(part, slice):
            slices.append(part)
            shape.append(len(range(size)[part]))
        else:
            place = range(size)[part]
            slices.append(slice(place, place + 1))
    return add_reshape(tracer, add_slice(tracer, x, *slices), tuple(shape))


def _cast(tracer: Tracer, op: Any, x: Traced) -> Traced:
    if op.dtype != "float32":
        raise QFrameError(f"it casts to {op.dtype}, and the target computes in float32")
    return x


# By the name of the class in Keras; a version may lack some.
OPERATORS: Mapping[str, Operator] = {
    **{
        name: _merge(name.lower().removeprefix("true"))
        for name in ("Add", "Subtract", "Multiply", "Divide", "Maximum", "Minimum")
    },
    "TrueDivide": _merge("divide"),
    **dict.fromkeys(("Absolute", "Abs"), _function("absolute")),
    **dict.fromkeys(("Copy", "StopGradient"), _identity),
    "Cast": _cast,
    "Clip": _activation(lambda op: _clip(_number(op.x_min), _number(op.x_max))),
    "Concatenate": _concatenate,
    "Einsum": _einsum,
    "Elu": _activation(lambda op: Activation("elu", float(op.alpha))),
    "Exp": _function("exponential"),
    "ExpandDims": _with_ones,
    "Gelu": _activation(lambda op: Activation("gelu_tanh" if op.approximate else "gelu")),
    "GetItem": _item,
    "HardSigmoid": _function("hard_sigmoid"),
    "HardSilu": _function("hard_silu"),
    "HardTanh": _function("hard_tanh"),
    "LeakyRelu": _activation(lambda op: Activation("relu", float(op.negative_slope))),
    "Matmul": _matmul,
    "Max": _global_pool("max"),
    "Mean": _global_pool("average"),
    "Mish": _function("mish"),
    "Negative": _scaled(-1),
    "Power": _power,
    "ReLU": _activation(_relu_of),
    "Relu": _function("relu"),
    "Relu6": _activation(lambda op: Activation("relu", most=6.0)),
    "Reshape": _reshape,
    "Selu": lambda tracer, op, x: add_selu(tracer, x),
    "Sigmoid": _function("sigmoid"),
    "Silu": _function("silu"),
    "Softmax": _softmax,
    "Softplus": _function("softplus"),
    "Softsign": _function("softsign"),
    "Sqrt": _function("sqrt"),
    "Square": _function("square"),
    "Squeeze": _without_ones,
    "Tanh": _function("tanh"),
    "Transpose": _transpose,
}
