"""Padding of quantized inputs with a value on their grid."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

from qframe.errors import ArgumentError


def check_pad_values(layer_name: str, pad_values: float, padding: str) -> float:
    """`pad_values` as a float; raises `ArgumentError` if it cannot be applied."""
    try:
        value = float(pad_values)
    except (TypeError, ValueError):
        raise ArgumentError(
            f"pad_values of {layer_name!r} must be a number, found {pad_values!r}."
        ) from None
    if value and padding == "causal":
        raise ArgumentError(
            f"pad_values={value} of {layer_name!r} cannot go with padding='causal', "
            "which Keras pads with zeros. Use padding='same' or 'valid', or "
            "pad_values=0."
        )
    return value


def pad_same(layer: Any, inputs: Any, value: float) -> Any:
    """Pad with `value` as "same" pads with zeros, for a "valid" convolution.

    Keras pads a spatial axis of size n, with stride s and the kernel dilated to k, by
    ``max((ceil(n / s) - 1) s + k - n, 0)`` positions, the smaller half in front. Sizes that
    are unknown until run time are computed then.
    """
    rank = len(inputs.shape) - 2
    first = 1 if layer.data_format == "channels_last" else 2
    sizes = ops.shape(inputs)
    pads: list[tuple[Any, Any]] = [(0, 0)] * (rank + 2)
    options = layer.kernel_size, layer.strides, layer.dilation_rate
    of_axes = zip(*(per_axis(option, rank) for option in options), strict=True)
    for axis, (kernel, stride, dilation) in enumerate(of_axes, first):
        size = sizes[axis]
        reach = (kernel - 1) * dilation + 1
        needed = (-(-size // stride) - 1) * stride + reach - size
        total = max(needed, 0) if isinstance(size, int) else ops.maximum(needed, 0)
        pads[axis] = (total // 2, total - total // 2)
    return _pad(inputs, pads, value)


def per_axis(value: int | tuple[int, ...], rank: int) -> tuple[int, ...]:
    """An option of a convolution for each spatial axis."""
    return (value,) * rank if isinstance(value, int) else tuple(value)


def _pad(inputs: Any, pads: list[tuple[Any, Any]], value: float) -> Any:
    if all(isinstance(width, int) for pair in pads for width in pair):
        return (
            ops.pad(inputs, pads, constant_values=value) if any(map(any, pads)) else inputs
        )
    # Keras's pad needs static widths; concatenation does not.
    for axis in range(1, len(pads)):
        shape = list(ops.shape(inputs))
        front, back = (
            ops.full((*shape[:axis], width, *shape[axis + 1 :]), value, inputs.dtype)
            for width in pads[axis]
        )
        inputs = ops.concatenate([front, inputs, back], axis=axis)
    return inputs


def window_pads(
    padding: str, sizes: Sequence[int], reach: Sequence[int], strides: Sequence[int]
) -> list[tuple[int, int]]:
    """The positions that Keras adds before and after each axis, the smaller half in front.

    Args:
        padding: ``"same"``, ``"valid"`` or ``"causal"``.
        sizes: the sizes of the axes.
        reach: the sizes of the windows, dilated.
        strides: their strides.
    """
    if padding == "causal":
        return [(window - 1, 0) for window in reach]
    if padding == "valid":
        return [(0, 0)] * len(reach)
    totals = [
        max((-(-size // stride) - 1) * stride + window - size, 0)
        for size, window, stride in zip(sizes, reach, strides, strict=True)
    ]
    return [(total // 2, total - total // 2) for total in totals]


def transposed_crop(padding: str, surplus: int) -> int:
    """The sums that a transposed convolution leaves out before the first of its result.

    Args:
        padding: ``"same"`` or ``"valid"``.
        surplus: the number of all sums along an axis, less that of the result.
    """
    if padding == "valid" or surplus <= 0:
        return 0
    return (surplus + _larger_part_first()) // 2


@functools.cache
def _larger_part_first() -> bool:
    """Return whether of an odd number of sums the larger part is left out at the start.

    Older versions of Keras do so on PyTorch.
    """
    kernel = np.array([1, 2, 3], np.float32).reshape(3, 1, 1)
    pixel = np.ones((1, 1, 1), np.float32)
    sums = ops.conv_transpose(pixel, kernel, 2, "same", data_format="channels_last")
    return float(ops.convert_to_numpy(sums)[0, 0, 0]) != 1
