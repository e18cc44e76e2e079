"""The products of a layer as those of a matrix: its kernel, and rows of its inputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
import keras
import numpy as np
from keras import ops

from qframe.passes.weights import Array, channel_axis, labels, row_of

_CONVOLUTION = "convolution"


@attrs.frozen
class _Axes:
    """The axes that an `EinsumDense` sums over.

    Args:
        read: the labels of its input, with dots.
        kernel: the labels of its kernel.
        output: the labels of its output.
    """

    read: str
    kernel: str
    output: str

    @property
    def _summed(self) -> list[str]:
        return [label for label in self.kernel if label in self.read]

    def summed_of(self, rank: int) -> list[int]:
        """The axes of an input of a rank that are summed over."""
        every = labels(self.read, rank)
        return [every.index(label) for label in self._summed]

    @property
    def of_kernel(self) -> tuple[list[int], list[int]]:
        """The axes of the kernel that are summed over, and the others."""
        places = {label: place for place, label in enumerate(self.kernel)}
        summed = [places.pop(label) for label in self._summed]
        return summed, [*places.values()]

    @property
    def is_one_matrix(self) -> bool:
        """Return whether the kernel multiplies every row with the same matrix."""
        names = [each.replace(".", "") for each in (self.read, self.kernel, self.output)]
        repeated = any(len({*each}) < len(each) for each in names)
        read, kernel, output = map(set, names)
        lost = (read | kernel) - output - (read & kernel)
        return not (repeated or lost or read & kernel & output)


def is_matrix(layer: Any) -> bool:
    """Return whether a layer multiplies each row of its inputs with one matrix.

    Dense layers do, `EinsumDense` where each axis of the kernel is either summed over or
    one of the output, and convolutions without groups, whose rows are patches.
    """
    if isinstance(layer, keras.layers.EinsumDense):
        return _axes(layer).is_one_matrix
    known = row_of(layer).counter in ("dense", _CONVOLUTION) and not is_depthwise(layer)
    return known and getattr(layer, "groups", 1) == 1


def is_depthwise(layer: Any) -> bool:
    """Return whether each output of a layer reads one channel of its input."""
    return any(prefix == "depthwise" for _, prefix, _ in row_of(layer).weights)


def matrix(layer: Any, values: Any) -> Array:
    """The kernel of a layer as a matrix (inputs, outputs)."""
    if isinstance(layer, keras.layers.EinsumDense):
        summed, others = _axes(layer).of_kernel
        values = np.transpose(values, [*summed, *others])
        count = int(np.prod(values.shape[: len(summed)]))
        return np.reshape(values, (count, -1))
    return np.reshape(values, (-1, values.shape[-1]))


def rows(layer: Any, x: Any, count: int) -> Any:
    """Rows of inputs that a layer multiplies with its matrix.

    Args:
        layer: the layer.
        x: its input, (examples, ...).
        count: the most rows of each example. There are fewer if it has fewer.

    Returns:
        A tensor (examples, rows, inputs of the matrix). Of more positions than `count` it
        is a Latin hypercube, the same for all examples.
    """
    rank = len(x.shape)
    if isinstance(layer, keras.layers.EinsumDense):
        summed = _axes(layer).summed_of(rank)
        kept = [i for i in range(rank) if i not in summed]
        x = ops.transpose(x, [*kept, *summed])
        sizes = [ops.shape(x)[i] for i in range(len(kept))]
        width = int(np.prod([x.shape[i] for i in range(len(kept), rank)]))
        x = ops.reshape(x, [*sizes, width])
    elif channel_axis(layer, rank) == 1:
        x = ops.moveaxis(x, 1, -1)
    spatial = len(x.shape) - 2
    if not spatial:
        return ops.expand_dims(x, 1)
    convolves = row_of(layer).counter == _CONVOLUTION
    windows = _windows(layer, spatial) if convolves else [_Window(1)] * spatial
    shape, channels = ops.shape(x), x.shape[-1]
    index, inside = _taken(windows, [shape[i] for i in range(1, spatial + 1)], count)
    flat = ops.reshape(x, (shape[0], -1, channels))
    taken = ops.take(flat, ops.reshape(index, (-1,)), axis=1)
    taken = ops.where(ops.reshape(inside, (1, -1, 1)), taken, 0)
    return ops.reshape(taken, (shape[0], index.shape[0], index.shape[1] * channels))


def _taken(windows: Sequence[_Window], sizes: Sequence[Any], count: int) -> tuple[Any, Any]:
    """The flat positions that each row takes, and which of them are not padding."""
    outputs = [each.outputs(size) for each, size in zip(windows, sizes, strict=True)]
    positions = _positions(outputs, count)
    rows_taken = positions[0].shape[0]
    index, inside = ops.zeros((rows_taken, 1), "int32"), ops.ones((rows_taken, 1), "bool")
    for window, size, out, place in zip(windows, sizes, outputs, positions, strict=True):
        along = window.inputs(place, size, out)  # (rows, positions in the window)
        within = ops.logical_and(along >= 0, along < size)
        along = ops.clip(along, 0, size - 1)
        index = ops.expand_dims(index, -1) * size + ops.expand_dims(along, 1)
        inside = ops.logical_and(ops.expand_dims(inside, -1), ops.expand_dims(within, 1))
        index = ops.reshape(index, (rows_taken, -1))
        inside = ops.reshape(inside, (rows_taken, -1))
    return ops.cast(index, "int32"), inside


@attrs.frozen
class _Window:
    """The window of a convolution along one axis."""

    kernel: int
    stride: int = 1
    dilation: int = 1
    padding: str = "valid"

    @property
    def reach(self) -> int:
        return (self.kernel - 1) * self.dilation + 1

    def outputs(self, size: Any) -> Any:
        """The number of positions of the output."""
        if self.padding == "valid":
            return (size - self.reach) // self.stride + 1
        return (size + self.stride - 1) // self.stride

    def inputs(self, place: Any, size: Any, outputs: Any) -> Any:
        """The positions in the input at which the outputs at some places look."""
        before: Any = 0
        if self.padding == "causal":
            before = self.reach - 1
        elif self.padding == "same":
            needed = (outputs - 1) * self.stride + self.reach - size
            before = ops.maximum(needed, 0) // 2
        first = ops.cast(place, "int32") * self.stride - ops.cast(before, "int32")
        steps = ops.arange(self.kernel, dtype="int32") * self.dilation
        return ops.expand_dims(first, -1) + steps


def _windows(layer: Any, spatial: int) -> list[_Window]:
    options = (layer.kernel_size, layer.strides, layer.dilation_rate)
    whole = (np.broadcast_to(each, (spatial,)).tolist() for each in options)
    return [_Window(k, s, d, layer.padding) for k, s, d in zip(*whole, strict=True)]


def _positions(sizes: Sequence[Any], count: int) -> list[Any]:
    """Positions along each axis: all, or a sample if there are more than `count`."""
    if all(isinstance(size, int) for size in sizes) and np.prod(sizes) <= count:
        grid = np.indices(tuple(sizes)).reshape(len(sizes), -1)
        return list(grid.astype("int32"))
    generator = np.random.default_rng(0)
    result = []
    for size in sizes:
        part = (generator.permutation(count) + generator.random(count)) / count
        if isinstance(size, int):
            result.append((part * size).astype("int32"))
        else:
            place = ops.cast(part, "float32") * ops.cast(size, "float32")
            result.append(ops.minimum(ops.cast(place, "int32"), size - 1))
    return result


def _axes(layer: Any) -> _Axes:
    operands, output = layer.equation.replace(" ", "").split("->")
    read, kernel = operands.split(",")
    return _Axes(read, kernel, output)
