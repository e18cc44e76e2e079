"""Padding of quantized inputs with a value on their grid."""

from __future__ import annotations

from typing import Any

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
    per_axis = zip(*(_per_axis(option, rank) for option in options), strict=True)
    for axis, (kernel, stride, dilation) in enumerate(per_axis, first):
        size = sizes[axis]
        reach = (kernel - 1) * dilation + 1
        needed = (-(-size // stride) - 1) * stride + reach - size
        total = max(needed, 0) if isinstance(size, int) else ops.maximum(needed, 0)
        pads[axis] = (total // 2, total - total // 2)
    return _pad(inputs, pads, value)


def _per_axis(value: int | tuple[int, ...], rank: int) -> tuple[int, ...]:
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
