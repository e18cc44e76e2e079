"""Layers of products as matrices of inputs and weights, in NumPy."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import attrs
import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from qframe.errors import QFrameError
from qframe.layers.adapters import is_tied
from qframe.layers.padding import per_axis, transposed_crop, window_pads
from qframe.layers.slots import slot_of

Array = NDArray[Any]

# From the numbers of some rows, these rows: an array of shape (G, rows, K).
Rows = Callable[[NDArray[np.int64]], Array]


class Matrices(Protocol):
    """A kernel as G matrices of K inputs and F outputs, and the inputs as their rows."""

    @property
    def order(self) -> NDArray[np.int64]:
        """The number of each weight of the kernel, in the shape (G, K, F)."""

    def count(self, shape: Sequence[int]) -> int:
        """The number of rows that inputs of a shape make."""

    def rows(self, x: Array, in_float: bool = False) -> Rows:
        """The rows of inputs by their numbers.

        Args:
            x: the inputs of the layer.
            in_float: whether other kernels of the layer are in float.
        """

    def bias(self, values: Array, shape: tuple[int, ...]) -> Array:
        """Numbers of shape (G, F) in the shape of the bias."""


def matrices_of(layer: Any, attribute: str, shape: tuple[int, ...]) -> Matrices:
    """The matrices of a kernel of a layer.

    Raises:
        QFrameError: the layer has none; the text is the reason.
    """
    order = np.arange(math.prod(shape)).reshape(shape)
    if isinstance(layer, keras.layers.EinsumDense):
        return _einsum(layer, order)
    if isinstance(layer, keras.layers.Dense):
        return _Dense(order[None])
    if attribute == "reverse_embeddings":
        return _Dense(order[None])
    if is_tied(layer):
        raise QFrameError(
            "it is tied: rows that suit its products would harm those that it looks up"
        )
    if isinstance(layer, keras.layers.Embedding):
        raise QFrameError(
            "its rows are looked up and not multiplied, so that the nearest level is best"
        )
    if hasattr(layer, "kernel_size") and hasattr(layer, "dilation_rate"):
        return _convolution(layer, attribute, order)
    if hasattr(layer, "state_size"):
        raise QFrameError("it is called in a loop over time, where inputs are not observed")
    raise QFrameError(f"it is not known how {type(layer).__name__} uses its {attribute}")


@attrs.frozen(eq=False)
class _Dense:
    order: NDArray[np.int64]

    def count(self, shape: Sequence[int]) -> int:
        return math.prod(shape[:-1])

    def rows(self, x: Array, in_float: bool = False) -> Rows:
        rows = x.reshape(-1, x.shape[-1])
        return lambda numbers: rows[numbers][None]

    def bias(self, values: Array, shape: tuple[int, ...]) -> Array:
        return values.reshape(shape)


@attrs.frozen(eq=False)
class _Einsum:
    """The axes of an `EinsumDense` by their labels.

    Args:
        order: as in `Matrices`.
        axes: the axes of the inputs: those of the rows, then G, then K.
        sizes: how many axes G and K have.
        outputs: the labels of G and F, with their sizes.
        bias_axes: the labels of the bias, in the order of its axes; a space for an axis
            of one number.
    """

    order: NDArray[np.int64]
    axes: tuple[int, ...]
    sizes: tuple[int, int]
    outputs: dict[str, int]
    bias_axes: str

    def count(self, shape: Sequence[int]) -> int:
        rows = len(shape) - sum(self.sizes)
        return math.prod(shape[axis] for axis in self._axes(len(shape))[:rows])

    def rows(self, x: Array, in_float: bool = False) -> Rows:
        groups, inputs = self.order.shape[:2]
        x = x.transpose(self._axes(x.ndim)).reshape(-1, groups, inputs)
        return lambda numbers: np.ascontiguousarray(x[numbers].transpose(1, 0, 2))

    def _axes(self, rank: int) -> list[int]:
        """All axes of inputs, with those of an ellipsis first."""
        named = [axis % rank for axis in self.axes]
        return [*(axis for axis in range(rank) if axis not in named), *named]

    def bias(self, values: Array, shape: tuple[int, ...]) -> Array:
        values = values.reshape(tuple(self.outputs.values()))
        absent = [i for i, label in enumerate(self.outputs) if label not in self.bias_axes]
        # A bias that several outputs share takes their mean.
        values = values.mean(axis=tuple(absent), keepdims=True)
        labels = [label for label in self.outputs if label in self.bias_axes]
        values = values.reshape([self.outputs[label] for label in labels])
        wanted = [label for label in self.bias_axes if label in labels]
        values = values.transpose([labels.index(label) for label in wanted])
        sizes = [self.outputs.get(label, 1) for label in self.bias_axes]
        # Each axis of an ellipsis at the end has the size 1 in the bias.
        sizes += [1] * (len(shape) - len(sizes))
        return np.broadcast_to(values.reshape(sizes), shape)


def _einsum(layer: Any, order: NDArray[np.int64]) -> _Einsum:
    operands, output = layer.equation.replace(" ", "").split("->")
    inputs, kernel = operands.split(",")
    before, after = inputs.split("...") if "..." in inputs else ("", inputs)
    # Axes before an ellipsis count from the front, those behind it from the end.
    places = {label: axis for axis, label in enumerate(before)}
    places |= {label: axis - len(after) for axis, label in enumerate(after)}
    if "..." not in inputs:
        places = {label: axis for axis, label in enumerate(inputs)}
    shared = [label for label in kernel if label in output and label in places]
    summed = [label for label in kernel if label not in output]
    made = [label for label in kernel if label in output and label not in places]
    if len(set(kernel)) < len(kernel) or any(label not in places for label in summed):
        raise QFrameError(f"its equation {layer.equation!r} is not one of matrices")
    rows = [label for label in places if label not in kernel]
    if any(label not in output for label in rows):
        raise QFrameError(
            f"its equation {layer.equation!r} sums inputs before it multiplies them"
        )
    sizes = dict(zip(kernel, order.shape, strict=True))
    order = order.transpose([kernel.index(label) for label in (*shared, *summed, *made)])
    groups = math.prod(sizes[label] for label in shared)
    order = order.reshape(groups, math.prod(sizes[label] for label in summed), -1)
    return _Einsum(
        order,
        tuple(places[label] for label in (*rows, *shared, *summed)),
        (len(shared), len(summed)),
        {label: sizes[label] for label in (*shared, *made)},
        _bias_axes(output.replace("...", ""), layer.bias_axes or ""),
    )


def _bias_axes(output: str, bias_axes: str) -> str:
    """The labels of the axes of a bias, which are those of the output from its first on."""
    first = min((output.index(label) for label in bias_axes), default=len(output))
    return "".join(label if label in bias_axes else " " for label in output[first:])


@attrs.frozen(eq=False)
class _Convolution:
    """The windows of a convolution.

    Args:
        order: as in `Matrices`.
        kernel: the size of the window.
        strides: its strides, 1 for a transposed convolution.
        dilation: the distances of its pixels.
        pads: from the sizes of inputs, the zeros around them; negative numbers cut off.
        groups: how many parts the channels have.
        channels_first: whether the axis of the channels is 1.
        apart: the distances to which a transposed convolution moves its inputs; 1 for
            others.
        pad: the number that is padded with.
    """

    order: NDArray[np.int64]
    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilation: tuple[int, ...]
    pads: Callable[[Sequence[int]], list[tuple[int, int]]]
    groups: int
    channels_first: bool
    apart: tuple[int, ...]
    pad: float

    def count(self, shape: Sequence[int]) -> int:
        sizes = shape[2:] if self.channels_first else shape[1:-1]
        pairs = zip(self._apart(sizes), self.pads(sizes), strict=True)
        return int(shape[0] * math.prod(self._counts([n + a + b for n, (a, b) in pairs])))

    def rows(self, x: Array, in_float: bool = False) -> Rows:
        x = np.moveaxis(x, 1, -1) if self.channels_first else x
        pads, x = self.pads(x.shape[1:-1]), self._moved_apart(x)
        widths = [(max(a, 0), max(b, 0)) for a, b in pads]
        if any(map(any, widths)):
            x = np.pad(x, ((0, 0), *widths, (0, 0)), constant_values=self.pad)
        # A transposed convolution may cut off outputs, so that inputs go with them.
        cut = [
            slice(max(-a, 0), x.shape[i] - max(-b, 0)) for i, (a, b) in enumerate(pads, 1)
        ]
        return functools.partial(self._rows, x[(slice(None), *cut)])

    def _rows(self, x: Array, numbers: NDArray[np.int64]) -> Array:
        """Rows of inputs with their padding."""
        counts = self._counts(x.shape[1:-1])
        example, *place = np.unravel_index(numbers, (x.shape[0], *counts))
        starts = [p * stride for p, stride in zip(place, self.strides, strict=True)]
        # Pixel by pixel, as the kernel has them; the channels of a group together. Rows
        # come last, since a group may have few inputs.
        shape = self.groups, x.shape[-1] // self.groups, len(numbers)
        result = np.empty((shape[0], math.prod(self.kernel), *shape[1:]), x.dtype)
        for pixel, offset in enumerate(np.ndindex(*self.kernel)):
            at = [s + o * d for s, o, d in zip(starts, offset, self.dilation, strict=True)]
            result[:, pixel] = x[(example, *at)].T.reshape(shape)
        return result.reshape(self.groups, -1, len(numbers)).transpose(0, 2, 1)

    def bias(self, values: Array, shape: tuple[int, ...]) -> Array:
        return values.reshape(shape)

    def _moved_apart(self, x: Array) -> Array:
        """Inputs with zeros between them."""
        if max(self.apart) == 1:
            return x
        sizes = self._apart(x.shape[1:-1])
        result = np.zeros((x.shape[0], *sizes, x.shape[-1]), x.dtype)
        result[(slice(None), *(slice(None, None, s) for s in self.apart))] = x
        return result

    def _counts(self, sizes: Sequence[int]) -> list[int]:
        """The number of windows along each axis."""
        parts = zip(sizes, _reach(self.kernel, self.dilation), self.strides, strict=True)
        return [max((n - reach) // stride + 1, 0) for n, reach, stride in parts]

    def _apart(self, sizes: Sequence[int]) -> list[int]:
        """The sizes of inputs after they were moved apart."""
        return [(n - 1) * s + 1 for n, s in zip(sizes, self.apart, strict=True)]


def _reach(kernel: Sequence[int], dilation: Sequence[int]) -> list[int]:
    return [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]


def _pads(
    layer: Any, reach: Sequence[int], strides: Sequence[int], sizes: Sequence[int]
) -> list[tuple[int, int]]:
    """The padding around inputs."""
    return window_pads(layer.padding, sizes, reach, strides)


def _transposed_pads(
    layer: Any, reach: Sequence[int], strides: Sequence[int], sizes: Sequence[int]
) -> list[tuple[int, int]]:
    """The zeros around inputs that were moved apart; negative numbers cut inputs off."""
    channels = layer.kernel.shape[-1]
    first = layer.data_format == "channels_first"
    shape = (1, channels, *sizes) if first else (1, *sizes, channels)
    results = layer.compute_output_shape(shape)
    pads = []
    parts = zip(sizes, results[2:] if first else results[1:-1], reach, strides, strict=True)
    for count, result, window, stride in parts:
        size = (count - 1) * stride + 1
        crop = transposed_crop(layer.padding, size + window - 1 - result)
        pads.append((window - 1 - crop, result - size + crop))
    return pads


@attrs.frozen(eq=False)
class _Pointwise:
    """The second kernel of a separable convolution, behind the first one."""

    order: NDArray[np.int64]
    layer: Any
    depthwise: Matrices

    def count(self, shape: Sequence[int]) -> int:
        return self.depthwise.count(shape)

    def rows(self, x: Array, in_float: bool = False) -> Rows:
        slot = slot_of(self.layer, "depthwise")
        quantized = slot.quantizer is not None and not in_float
        kernel = slot.quantized_value() if quantized else slot.latent_value()
        kernel = ops.convert_to_numpy(ops.cast(kernel, "float32")).ravel()
        weights, read = kernel[self.depthwise.order], self.depthwise.rows(x)

        def rows(numbers: NDArray[np.int64]) -> Array:
            products = (read(numbers) @ weights).transpose(1, 0, 2)
            return np.asarray(products.reshape(1, len(numbers), -1))

        return rows

    def bias(self, values: Array, shape: tuple[int, ...]) -> Array:
        return values.reshape(shape)


def _convolution(layer: Any, attribute: str, order: NDArray[np.int64]) -> Matrices:
    if attribute == "pointwise_kernel":
        shape = tuple(layer.depthwise_kernel.shape)
        depthwise = matrices_of(layer, "depthwise_kernel", shape)
        return _Pointwise(order.reshape(1, *order.shape[-2:]), layer, depthwise)
    rank = order.ndim - 2
    each = layer.kernel_size, layer.strides, layer.dilation_rate
    kernel, strides, dilation = (per_axis(value, rank) for value in each)
    is_transposed = hasattr(layer, "output_padding")
    apart = strides if is_transposed else (1,) * rank
    if is_transposed:
        strides = (1,) * rank
        order = np.flip(order, tuple(range(rank))).swapaxes(-1, -2)
    is_depthwise = hasattr(layer, "depth_multiplier")
    groups = order.shape[-2] if is_depthwise else getattr(layer, "groups", 1)
    if is_depthwise:
        # (..., channels, multiplier): each channel is a group with its own outputs.
        order = np.moveaxis(order, -2, 0).reshape(groups, -1, order.shape[-1])
    else:
        outputs = order.shape[-1] // groups
        order = order.reshape(-1, groups, outputs).transpose(1, 0, 2)
    pads, between = (_transposed_pads, apart) if is_transposed else (_pads, strides)
    return _Convolution(
        np.ascontiguousarray(order),
        kernel,
        strides,
        dilation,
        functools.partial(pads, layer, _reach(kernel, dilation), between),
        groups,
        layer.data_format == "channels_first",
        apart,
        float(getattr(layer, "pad_values", 0.0)),
    )
