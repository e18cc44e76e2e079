"""The operations in NumPy, the reference of every other way to run a model.

Floats are float32 between operations; sums of products are added in float64 within one,
which is exact for integers. Integers are int32, or int64 if sums need more, and count
from the zero point.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from qframe.deployment.graph import operations
from qframe.deployment.graph.fused import Fused
from qframe.deployment.graph.graph import Graph
from qframe.deployment.graph.kernels import is_integer
from qframe.deployment.graph.rounding import Rounding

Array = NDArray[Any]
# The most factors of products that are laid out at once.
_MOST_FACTORS = 2**22


@functools.singledispatch
def run(operation: Any, *inputs: Array) -> Array:
    """The result of an operation on arrays whose first axis is the batch."""
    raise NotImplementedError(f"{operation!r} is not in the reference")


def tensors_of(graph: Graph, *inputs: Array) -> list[Array]:
    """All tensors of a graph, the inputs first."""
    tensors = [np.asarray(array, np.float32) for array in inputs]
    for node in graph.nodes:
        tensors.append(run(node.operation, *(tensors[i] for i in node.inputs)))
    return tensors


def _numbers(kernel: Any) -> Array:
    return np.asarray(kernel.integers() if is_integer(kernel) else kernel, np.float64)


def _product(factors: Array, matrix: Array, whole: bool) -> Array:
    """The matrix product; in float32 if that is exact, since it is much faster."""
    if whole:
        largest = np.abs(factors).max(initial=0) * np.abs(matrix).max(initial=0)
        if largest * factors.shape[-1] < 2**24:
            return factors.astype(np.float32) @ matrix.astype(np.float32)
    return factors.astype(np.float64) @ matrix


def _sums(total: Array, kernel: Any, x: Array) -> Array:
    """Sums as integers if all factors are integers, else as floats."""
    if _whole(kernel, x):
        wide = np.abs(total).max(initial=0) >= 2**31
        return np.rint(total).astype(np.int64 if wide else np.int32)
    if is_integer(kernel) and np.any(kernel.scale != 1):
        total = total * kernel.scale
    return total.astype(np.float32)


def _whole(kernel: Any, x: Array) -> bool:
    return is_integer(kernel) and x.dtype.kind == "i"


def _padded(x: Array, pads: tuple[int, ...], value: float) -> Array:
    top, bottom, left, right = pads
    if not any(pads):
        return x
    widths = ((0, 0), (top, bottom), (left, right), (0, 0))
    return np.pad(x, widths, constant_values=value)


def _windows(x: Array, reach: tuple[int, int], strides: tuple[int, int]) -> Array:
    """A view (batch, rows, columns, channels, height, width) of all windows."""
    view = sliding_window_view(x, reach, axis=(1, 2))
    return np.asarray(view[:, :: strides[0], :: strides[1]])


@run.register
def _conv2d(op: operations.Conv2D, x: Array) -> Array:
    windows = _windows(_padded(x, op.pads, op.pad), op.reach, op.strides)
    windows = windows[..., :: op.dilation[0], :: op.dilation[1]]
    batch, rows, columns, channels, height, width = windows.shape
    size, groups = channels // op.groups, op.groups
    kernel = _numbers(op.kernel).reshape(groups, -1, height, width, size)
    matrix = kernel.transpose(0, 4, 2, 3, 1).reshape(groups, size * height * width, -1)
    total = np.empty((batch, rows, columns, groups * matrix.shape[2]))
    # Whole rows, or parts of one whose windows are too large to be laid out together.
    most = max(1, _MOST_FACTORS // (batch * channels * height * width))
    down, across = max(1, most // columns), min(columns, most)
    for row in range(0, rows, down):
        for column in range(0, columns, across):
            part = np.s_[:, row : row + down, column : column + across]
            chosen = windows[part]
            shape = chosen.shape[:3]
            chosen = chosen.reshape(*shape, groups, size, height, width)
            factors = chosen.transpose(3, 0, 1, 2, 4, 5, 6)
            factors = factors.reshape(groups, -1, matrix.shape[1])
            sums = _product(factors, matrix, _whole(op.kernel, x)).transpose(1, 0, 2)
            total[part] = sums.reshape(*shape, -1)
    return _sums(total, op.kernel, x)


@run.register
def _dense(op: operations.Dense, x: Array) -> Array:
    total = _product(x, _numbers(op.kernel).T, _whole(op.kernel, x))
    return _sums(total, op.kernel, x)


@run.register
def _affine(op: operations.Affine, x: Array) -> Array:
    y = x.astype(np.float32)
    if op.scale is not None:
        y = y * op.scale.astype(np.float32)
    if op.shift is not None:
        y = y + op.shift.astype(np.float32)
    return np.asarray(y)


@run.register
def _quantize(op: operations.Quantize, x: Array) -> Array:
    if op.direction is not None:
        x = x * op.direction.astype(x.dtype)
    count = np.zeros(x.shape, np.int32)
    for threshold in op.thresholds:
        count += x >= threshold
    return np.int32(op.low) + np.int32(op.step) * count


@run.register
def _round(op: operations.Round, x: Array) -> Array:
    return Rounding("half_even", op.divisor, op.factor).levels(x, op.low, op.high)


@run.register
def _dequantize(op: operations.Dequantize, x: Array) -> Array:
    return np.asarray(x.astype(np.float32) * np.asarray(op.scale, np.float32))


@run.register
def _max_pool(op: operations.MaxPool, x: Array) -> Array:
    direction = np.ones((), x.dtype) if op.direction is None else op.direction
    x = x * direction.astype(x.dtype)
    # Padding is below every number, so that it is never the largest.
    least = -np.inf if x.dtype.kind == "f" else np.iinfo(x.dtype).min
    windows = _windows(_padded(x, op.pads, least), op.pool, op.strides)
    return np.asarray(windows.max(axis=(-2, -1)) * direction.astype(x.dtype))


@run.register
def _average_pool(op: operations.AveragePool, x: Array) -> Array:
    inside = _padded(np.ones((1, *x.shape[1:]), np.float64), op.pads, 0)
    values = _padded(x.astype(np.float64), op.pads, 0)
    total, count = (
        _windows(part, op.pool, op.strides).sum(axis=(-2, -1)) for part in (values, inside)
    )
    return np.asarray(total / count, np.float32)


@run.register
def _global_pool(op: operations.GlobalPool, x: Array) -> Array:
    axes = tuple(range(1, x.ndim - 1))
    if op.function == "max":
        return np.asarray(x.max(axis=axes))
    return np.asarray(x.mean(axis=axes, dtype=np.float64), np.float32)


def _relu(x: Array, op: operations.Activation) -> Array:
    edge = np.float32(op.threshold)
    # As in Keras, the slope begins at the threshold.
    below = np.float32(op.alpha) * (x - edge) if op.alpha else np.zeros_like(x)
    y = np.where(x > edge, x, below)
    return y if op.most is None else np.minimum(y, np.float32(op.most))


def _sigmoid(x: Array) -> Array:
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + e), e / (1 + e))


def _leaky_tanh(x: Array, op: operations.Activation) -> Array:
    inside = np.clip(x, -1, 1)
    return inside + np.float32(op.alpha) * (x - inside)


def _softmax(x: Array) -> Array:
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return np.asarray(e / e.sum(axis=-1, keepdims=True))


_FUNCTIONS: dict[str, Callable[[Array, operations.Activation], Array]] = {
    "elu": lambda x, op: np.where(x > 0, x, op.alpha * np.expm1(np.minimum(x, 0))),
    "exponential": lambda x, op: np.exp(x),
    "hard_sigmoid": lambda x, op: np.clip(x / 6 + np.float32(0.5), 0, 1),
    "hard_tanh": lambda x, op: np.clip(x, -1, 1),
    "leaky_tanh": _leaky_tanh,
    "relu": _relu,
    "sigmoid": lambda x, op: _sigmoid(x),
    "silu": lambda x, op: x * _sigmoid(x),
    "softmax": lambda x, op: _softmax(x),
    "softplus": lambda x, op: np.logaddexp(x, 0),
    "softsign": lambda x, op: x / (1 + np.abs(x)),
    "tanh": lambda x, op: np.tanh(x),
}


@run.register
def _activation(op: operations.Activation, x: Array) -> Array:
    with np.errstate(over="ignore"):
        return np.asarray(_FUNCTIONS[op.function](x, op), np.float32)


@run.register
def _prelu(op: operations.PReLU, x: Array) -> Array:
    alpha = op.alpha.astype(np.float32)
    return np.maximum(x, 0) + alpha * np.minimum(x, 0)


@run.register
def _merge(op: operations.Merge, *inputs: Array) -> Array:
    average = op.function == "average"
    # The other functions have the names of NumPy.
    merged: Array = functools.reduce(getattr(np, "add" if average else op.function), inputs)
    return merged / np.float32(len(inputs)) if average else merged


@run.register
def _concatenate(op: operations.Concatenate, *inputs: Array) -> Array:
    return np.concatenate(inputs, axis=op.axis)


@run.register
def _reshape(op: operations.Reshape, x: Array) -> Array:
    # Not -1 for the batch, which may be empty.
    return x.reshape(len(x), *op.shape)


@run.register
def _pad(op: operations.Pad, x: Array) -> Array:
    return _padded(x, op.pads, 0)


@run.register
def _fused(op: Fused, *inputs: Array) -> Array:
    if op.is_product:
        y = run(op.operation, *inputs)
        whole = op.bias is not None and op.bias.dtype.kind == "i"
        if whole:
            y = y.astype(np.int64) + op.bias
        if y.dtype.kind == "i":
            y = y.astype(np.float32) * op.scale.astype(np.float32)
        if op.bias is not None and not whole:
            y = y + op.bias.astype(np.float32)
    else:
        real = (
            x if scale is None else run(operations.Dequantize(scale=scale), x)
            for x, scale in zip(inputs, op.scales, strict=True)
        )
        y = run(op.operation, *real)
    for after in (op.activation, op.quantize):
        y = y if after is None else run(after, y)
    return y
