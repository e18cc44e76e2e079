"""Padding of quantized inputs with a value that has a place on their grid."""

from __future__ import annotations

from typing import Any

from keras import ops

from qframe.errors import ArgumentError


def check_pad_values(layer_name: str, pad_values: float, padding: str) -> float:
    """`pad_values` as a float; raises `ArgumentError` where it has no meaning."""
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
    """Pad so that a "valid" convolution gives what "same" gives, with `value` outside.

    The split is Keras's: for each spatial axis of size n, with stride s and the kernel
    dilated to k, ``max((ceil(n / s) - 1) s + k - n, 0)`` positions, the smaller half in
    front. Sizes that are unknown until run time are computed then.
    """
    rank = len(inputs.shape) - 2
    first = 1 if layer.data_format == "channels_last" else 2
    sizes = ops.shape(inputs)
    pads: list[tuple[Any, Any]] = [(0, 0)] * (rank + 2)
    for i, (kernel, stride, dilation) in enumerate(
        zip(
            _per_axis(layer.kernel_size, rank),
            _per_axis(layer.strides, rank),
            _per_axis(layer.dilation_rate, rank),
            strict=True,
        )
    ):
        size = sizes[first + i]
        reach = (kernel - 1) * dilation + 1
        needed = (-(-size // stride) - 1) * stride + reach - size
        total = max(needed, 0) if isinstance(size, int) else ops.maximum(needed, 0)
        pads[first + i] = (total // 2, total - total // 2)
    return _pad(inputs, pads, value)


def _per_axis(value: int | tuple[int, ...], rank: int) -> tuple[int, ...]:
    return (value,) * rank if isinstance(value, int) else tuple(value)


def _pad(inputs: Any, pads: list[tuple[Any, Any]], value: float) -> Any:
    if all(isinstance(width, int) for pair in pads for width in pair):
        return (
            ops.pad(inputs, pads, constant_values=value) if any(map(any, pads)) else inputs
        )
    # Keras's pad wants static widths; concatenation takes any.
    for axis in range(1, len(pads)):
        shape = list(ops.shape(inputs))
        front, back = (
            ops.full((*shape[:axis], width, *shape[axis + 1 :]), value, inputs.dtype)
            for width in pads[axis]
        )
        inputs = ops.concatenate([front, inputs, back], axis=axis)
    return inputs
