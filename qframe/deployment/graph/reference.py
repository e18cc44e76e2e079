"""The operations in NumPy, the reference of every other way to run a model.

Floats are float32 between operations; sums of products are added in float64 within one,
which is exact for integers. Integers are int32, or int64 if sums need more, and count
from the zero point.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from qframe.deployment.graph import operations
from qframe.deployment.graph.functions import activate
from qframe.deployment.graph.fused import Fused
from qframe.deployment.graph.graph import Graph
from qframe.deployment.graph.kernels import is_integer
from qframe.deployment.graph.recurring import recur
from qframe.deployment.graph.rounding import Rounding
from qframe.errors import ArgumentError

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
    """The product of matrices; in float32 if that is exact, since it is much faster."""
    if whole:
        largest = np.abs(factors).max(initial=0) * np.abs(matrix).max(initial=0)
        if largest * factors.shape[-1] < 2**24:
            return factors.astype(np.float32) @ matrix.astype(np.float32)
    with np.errstate(all="ignore"):
        return factors.astype(np.float64) @ matrix.astype(np.float64)


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
    total = _sums_of(windows, _numbers(op.kernel), op.groups, _whole(op.kernel, x))
    return _sums(total, op.kernel, x)


def _sums_of(windows: Array, kernel: Array, groups: int, whole: bool) -> Array:
    """The sums of products of all windows with a kernel."""
    batch, rows, columns, channels, height, width = windows.shape
    size = channels // groups
    kernel = kernel.reshape(groups, -1, height, width, size)
    matrix = kernel.transpose(0, 4, 2, 3, 1).reshape(groups, size * height * width, -1)
    total = np.empty((batch, rows, columns, groups * matrix.shape[2]))
    if not batch:
        return total
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
            sums = _product(factors, matrix, whole).transpose(1, 0, 2)
            total[part] = sums.reshape(*shape, -1)
    return total


@run.register
def _conv2d_transpose(op: operations.Conv2DTranspose, x: Array) -> Array:
    # A convolution of the pixels, with zeros between them and around, gives the same sums.
    kernel = _numbers(op.kernel)
    height, width = (
        size + reach - 1 for size, reach in zip(op.size, kernel.shape[1:3], strict=True)
    )
    rows, columns = (
        np.arange(x.shape[axis]) * op.strides[axis - 1]
        + (kernel.shape[axis] - 1 - op.crops[axis - 1])
        for axis in (1, 2)
    )
    down, across = (rows >= 0) & (rows < height), (columns >= 0) & (columns < width)
    image = np.zeros((len(x), height, width, x.shape[3]), x.dtype)
    image[:, rows[down][:, None], columns[across]] = x[:, down][:, :, across]
    windows = _windows(image, (kernel.shape[1], kernel.shape[2]), (1, 1))
    total = _sums_of(windows, kernel[:, ::-1, ::-1], 1, _whole(op.kernel, x))
    return _sums(total, op.kernel, x)


@run.register
def _dense(op: operations.Dense, x: Array) -> Array:
    total = _product(x, _numbers(op.kernel).T, _whole(op.kernel, x))
    return _sums(total, op.kernel, x)


@run.register
def _matmul(op: operations.Matmul, x: Array, y: Array) -> Array:
    return np.asarray(_product(x, y, False) * op.scale, np.float32)


@run.register
def _recurrence(op: operations.Recurrence, x: Array) -> Array:
    return recur(op, x)


@run.register
def _lookup(op: operations.Lookup, x: Array) -> Array:
    rows = np.trunc(x)
    if not ((rows >= 0) & (rows < op.kernel.shape[0])).all():
        raise ArgumentError(
            f"an embedding takes indices from 0 to {op.kernel.shape[0] - 1}, found numbers "
            f"from {x.min()} to {x.max()}."
        )
    integers = is_integer(op.kernel)
    table = op.kernel.integers().astype(np.int32) if integers else op.kernel
    chosen = table[rows.astype(np.int64)]
    return np.asarray(chosen if integers else chosen.astype(np.float32))


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


@run.register
def _activation(op: operations.Activation, x: Array) -> Array:
    return activate(op, x)


@run.register
def _prelu(op: operations.PReLU, x: Array) -> Array:
    alpha = op.alpha.astype(np.float32)
    return np.maximum(x, 0) + alpha * np.minimum(x, 0)


@run.register
def _merge(op: operations.Merge, *inputs: Array) -> Array:
    average = op.function == "average"
    # The other functions have the names of NumPy.
    function = getattr(np, "add" if average else op.function)
    with np.errstate(all="ignore"):
        merged: Array = functools.reduce(function, inputs)
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
def _slice(op: operations.Slice, x: Array) -> Array:
    parts = zip(op.starts, op.sizes, op.steps, strict=True)
    chosen = (slice(a, a + (size - 1) * step + 1, step) for a, size, step in parts)
    return np.asarray(x[(slice(None), *chosen)])


@run.register
def _transpose(op: operations.Transpose, x: Array) -> Array:
    return x.transpose(0, *op.axes)


@run.register
def _repeat(op: operations.Repeat, x: Array) -> Array:
    return np.repeat(x, op.count, axis=op.axis)


@run.register
def _resize(op: operations.Resize, x: Array) -> Array:
    for axis, size in enumerate(op.size, 1):
        x = _between(x, size, axis)
    return x


def _between(x: Array, size: int, axis: int) -> Array:
    """Numbers between neighbors along an axis, as many as `size`."""
    last = x.shape[axis] - 1
    places = np.clip((np.arange(size) + 0.5) * (last + 1) / size - 0.5, 0, last)
    low = places.astype(np.int64)
    part = (places - low).astype(np.float32)
    part = part.reshape(-1, *(1,) * (x.ndim - axis - 1))
    before, after = x.take(low, axis), x.take(np.minimum(low + 1, last), axis)
    with np.errstate(all="ignore"):
        return np.asarray(before + (after - before) * part)


@run.register
def _normalize(op: operations.Normalize, x: Array) -> Array:
    wide = x.astype(np.float64)
    with np.errstate(all="ignore"):
        if op.function == "standard":
            wide -= wide.mean(axis=op.axes, keepdims=True)
        variance = np.square(wide).mean(axis=op.axes, keepdims=True)
        return np.asarray(wide / np.sqrt(variance + op.epsilon), np.float32)


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
    elif isinstance(op.operation, operations.Matmul) and None not in op.scales:
        # Sums of integers, which are scaled once.
        step = op.operation.scale * np.float64(op.scales[0]) * np.float64(op.scales[1])
        y = _product(inputs[0], inputs[1], True).astype(np.float32) * np.float32(step)
    else:
        real = (
            x if scale is None else run(operations.Dequantize(scale=scale), x)
            for x, scale in zip(inputs, op.scales, strict=True)
        )
        y = run(op.operation, *real)
    for after in (op.activation, op.quantize):
        y = y if after is None else run(after, y)
    return y
