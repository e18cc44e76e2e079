"""Layers with kernels, as sums of products, scales and biases."""

from __future__ import annotations

from typing import Any

import numpy as np

from qframe.errors import QFrameError
from qframe_packed.functions import activated
from qframe_packed.operations import Affine, Conv2D, Dense
from qframe_packed.tracing import Tensor, Tracer
from qframe_packed.weights import Array, Kernel, kernel_of, values_of


def pads_of(
    padding: str, shape: tuple[int, ...], reach: Any, strides: Any
) -> tuple[int, int, int, int]:
    """What Keras pads: top, bottom, left, right. The smaller half is in front."""
    if padding == "valid":
        return 0, 0, 0, 0
    found: list[int] = []
    for size, window, stride in zip(shape[:2], reach, strides, strict=True):
        total = max((-(-size // stride) - 1) * stride + window - size, 0)
        found += (total // 2, total - total // 2)
    return found[0], found[1], found[2], found[3]


def dense(tracer: Tracer, layer: Any, given: list[Tensor]) -> Tensor:
    """Add a dense layer."""
    (x,) = given
    if getattr(layer, "quantization_mode", None):
        raise QFrameError(
            f"keras.Model.quantize({layer.quantization_mode!r}) has changed it. Export the "
            "model from before that"
        )
    kernel = kernel_of(layer, "kernel", np.transpose, tracer.floats)
    found = tracer.add(Dense(kernel=kernel.weights), x, scale=x.scale)
    return _finished(tracer, layer, found, kernel)


def convolution(tracer: Tracer, layer: Any, given: list[Tensor]) -> Tensor:
    """Add a two-dimensional convolution, grouped or not."""
    (x,) = given
    kernel = kernel_of(layer, "kernel", lambda a: a.transpose(3, 0, 1, 2), tracer.floats)
    found = _windows(tracer, layer, x, kernel, layer.groups)
    return _finished(tracer, layer, found, kernel)


def depthwise(tracer: Tracer, layer: Any, given: list[Tensor]) -> Tensor:
    """Add a depthwise convolution."""
    (x,) = given
    kernel = kernel_of(layer, "kernel", _by_channel, tracer.floats)
    found = _windows(tracer, layer, x, kernel, x.shape[-1])
    return _finished(tracer, layer, found, kernel)


def separable(tracer: Tracer, layer: Any, given: list[Tensor]) -> Tensor:
    """Add a separable convolution, as a depthwise one and a pointwise one."""
    (x,) = given
    kernel = kernel_of(layer, "depthwise_kernel", _by_channel, tracer.floats)
    middle = _scaled(tracer, _windows(tracer, layer, x, kernel, x.shape[-1]), kernel, None)
    points = kernel_of(
        layer, "pointwise_kernel", lambda a: a.transpose(3, 0, 1, 2), tracer.floats
    )
    found = tracer.add(Conv2D(kernel=points.weights), middle, scale=middle.scale)
    return _finished(tracer, layer, found, points)


def _by_channel(kernel: Array) -> Array:
    """(height, width, channels, multiplier) as (outputs, height, width, 1)."""
    height, width = kernel.shape[:2]
    return kernel.transpose(2, 3, 0, 1).reshape(-1, height, width, 1)


def _windows(tracer: Tracer, layer: Any, x: Tensor, kernel: Kernel, groups: int) -> Tensor:
    """The sums of products of the windows of an image."""
    dilation, strides = tuple(layer.dilation_rate), tuple(layer.strides)
    _, height, width, _ = kernel.weights.shape
    reach = (height - 1) * dilation[0] + 1, (width - 1) * dilation[1] + 1
    pads = pads_of(layer.padding, x.shape, reach, strides)
    pad = float(getattr(layer, "pad_values", 0.0))
    if x.value.span is not None and pad:
        steps = pad / x.scale
        if abs(steps - round(steps)) > 1e-5 * max(1, abs(steps)):
            raise QFrameError(
                f"its pad_values={pad} is not on the grid of its input, whose step is "
                f"{x.scale:g}"
            )
        pad = float(round(steps))
    operation = Conv2D(
        kernel=kernel.weights,
        strides=strides,
        dilation=dilation,
        pads=pads,
        pad=pad if any(pads) else 0.0,
        groups=groups,
    )
    return tracer.add(operation, x, scale=x.scale)


def _finished(tracer: Tracer, layer: Any, sums: Tensor, kernel: Kernel) -> Tensor:
    """With scales, bias and activation."""
    bias = values_of(layer, "bias") if layer.use_bias else None
    return activated(tracer, layer.activation, _scaled(tracer, sums, kernel, bias))


def _scaled(tracer: Tracer, sums: Tensor, kernel: Kernel, bias: Array | None) -> Tensor:
    """The sums times the scales of the input and of the kernel, and the bias."""
    scale = np.float64(sums.scale) * (1 if kernel.scale is None else kernel.scale)
    whole = sums.value.span is not None
    if bias is None and np.ndim(scale) == 0 and whole and scale > 0:
        # Integers stay integers as long as one positive scale is all that there is.
        return Tensor(sums.index, sums.value, float(scale))
    if bias is not None and not np.isfinite(bias).all():
        raise QFrameError("bias holds numbers that are not finite")
    plain = np.ndim(scale) == 0 and scale == 1
    factor = None if plain else np.asarray(scale, np.float32)
    if factor is None and bias is None and not whole:
        return Tensor(sums.index, sums.value)
    return tracer.add(Affine(scale=factor, shift=bias), sums)
