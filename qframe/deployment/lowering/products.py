"""The lowering of layers with kernels to products, biases and activations."""

from __future__ import annotations

from typing import Any

import numpy as np

from qframe.deployment.graph.kernels import Kernel, is_integer
from qframe.deployment.graph.operations import Affine, Conv2D, Dense, Lookup, Merge
from qframe.deployment.graph.values import is_one_positive
from qframe.deployment.lowering.functions import add_activation
from qframe.deployment.lowering.images import pads_of
from qframe.deployment.lowering.shapes import as_before, as_image, of_image
from qframe.deployment.lowering.tracing import Traced, Tracer
from qframe.deployment.lowering.weights import Array, kernel_of, values_of
from qframe.errors import QFrameError


def dense(tracer: Tracer, layer: Any, inputs: list[Traced]) -> Traced:
    """Add a dense layer."""
    (x,) = inputs
    check_not_quantized_by_keras(layer)
    kernel = kernel_of(layer, "kernel", np.transpose, tracer.target.floats)
    x = x if is_integer(kernel) else tracer.real(x)
    return add_epilogue(tracer, layer, tracer.add(Dense(kernel=kernel), x))


def check_not_quantized_by_keras(layer: Any) -> None:
    """Raise `QFrameError` for a layer that Keras itself has quantized."""
    if getattr(layer, "quantization_mode", None):
        raise QFrameError(
            f"keras.Model.quantize({layer.quantization_mode!r}) has changed it. Export the "
            "model from before that"
        )


def convolution(tracer: Tracer, layer: Any, inputs: list[Traced]) -> Traced:
    """Add a convolution of an image or a sequence, grouped or not."""
    (x,) = inputs
    kernel = kernel_of(layer, "kernel", _outputs_first, tracer.target.floats)
    sums = _windows(tracer, layer, as_image(tracer, x), kernel, layer.groups)
    return as_before(tracer, add_epilogue(tracer, layer, sums), x)


def depthwise(tracer: Tracer, layer: Any, inputs: list[Traced]) -> Traced:
    """Add a depthwise convolution."""
    (x,) = inputs
    kernel = kernel_of(layer, "kernel", _by_channel, tracer.target.floats)
    sums = _windows(tracer, layer, as_image(tracer, x), kernel, x.shape[-1])
    return as_before(tracer, add_epilogue(tracer, layer, sums), x)


def separable(tracer: Tracer, layer: Any, inputs: list[Traced]) -> Traced:
    """Add a separable convolution, as a depthwise one and a pointwise one."""
    (x,) = inputs
    floats = tracer.target.floats
    kernel = kernel_of(layer, "depthwise_kernel", _by_channel, floats)
    sums = _windows(tracer, layer, as_image(tracer, x), kernel, x.shape[-1])
    middle = add_bias(tracer, sums, None)
    points = kernel_of(layer, "pointwise_kernel", _outputs_first, floats)
    middle = middle if is_integer(points) else tracer.real(middle)
    sums = tracer.add(Conv2D(kernel=points), middle)
    return as_before(tracer, add_epilogue(tracer, layer, sums), x)


def embedding(tracer: Tracer, layer: Any, inputs: list[Traced]) -> Traced:
    """Add a row of a matrix for each index."""
    (x,) = inputs
    if layer.mask_zero:
        raise QFrameError(
            "its mask_zero=True hides steps from later layers, which the target cannot "
            "do. Build it with mask_zero=False"
        )
    x = tracer.real(x)
    table: Any = kernel_of(layer, "embeddings", lambda rows: rows, tracer.target.floats)
    if not is_integer(table) or is_one_positive(table.scale):
        return tracer.add(Lookup(kernel=table), x)
    # A scale for each row is looked up as the row is.
    scales = np.broadcast_to(table.scale, table.shape[:1]).reshape(-1, 1).copy()
    rows = tracer.real(tracer.add(Lookup(kernel=Kernel(table.values)), x))
    return tracer.add(
        Merge(function="multiply"), rows, tracer.add(Lookup(kernel=scales), x)
    )


def _outputs_first(kernel: Array) -> Array:
    """(height, width, inputs, outputs) as (outputs, height, width, inputs)."""
    return np.moveaxis(kernel_of_image(kernel), 3, 0)


def _by_channel(kernel: Array) -> Array:
    """(height, width, channels, multiplier) as (outputs, height, width, 1)."""
    kernel = kernel_of_image(kernel)
    height, width = kernel.shape[:2]
    return kernel.transpose(2, 3, 0, 1).reshape(-1, height, width, 1)


def kernel_of_image(kernel: Array) -> Array:
    """A kernel for images; that of a sequence has one row."""
    return kernel[None] if kernel.ndim == 3 else kernel


def _windows(tracer: Tracer, layer: Any, x: Traced, kernel: Any, groups: int) -> Traced:
    """Add the sums of products of the windows of an image."""
    dilation, strides = of_image(layer.dilation_rate), of_image(layer.strides)
    _, height, width, _ = kernel.shape
    reach = (height - 1) * dilation[0] + 1, (width - 1) * dilation[1] + 1
    pads = pads_of(layer.padding, x.shape, reach, strides)
    pad = float(getattr(layer, "pad_values", 0.0))
    if x.value.grid is not None and pad:
        scale = x.value.grid.scale
        steps = pad / scale
        if abs(steps - round(steps)) > 1e-5 * max(1, abs(steps)):
            raise QFrameError(
                f"its pad_values={pad} is not on the grid of its input, whose step is "
                f"{scale:g}"
            )
        pad = float(round(steps)) if is_integer(kernel) else pad
    operation = Conv2D(
        kernel=kernel,
        strides=strides,
        dilation=dilation,
        pads=pads,
        pad=pad if any(pads) else 0.0,
        groups=groups,
    )
    return tracer.add(operation, x if is_integer(kernel) else tracer.real(x))


def add_epilogue(tracer: Tracer, layer: Any, sums: Traced) -> Traced:
    """Add the bias and the activation."""
    bias = values_of(layer, "bias") if layer.use_bias else None
    return add_inner_activation(tracer, layer, add_bias(tracer, sums, bias))


def add_inner_activation(tracer: Tracer, layer: Any, x: Traced) -> Traced:
    """Add the activation of a layer with a kernel, behind its quantizer if it has one."""
    quantizer = getattr(layer, "preactivation_quantizer", None)
    if quantizer is not None:
        x = tracer.add_quantizer(quantizer, x)
    return add_activation(tracer, layer.activation, x)


def check_bias(bias: Array) -> None:
    """Raise `QFrameError` for a bias with numbers that are not finite."""
    if not np.isfinite(bias).all():
        raise QFrameError("bias holds numbers that are not finite")


def add_bias(tracer: Tracer, sums: Traced, bias: Array | None) -> Traced:
    """Add the bias; integers stay integers if one positive scale is enough."""
    if bias is not None:
        check_bias(bias)
    grid = sums.value.grid
    if grid is not None and (bias is not None or not is_one_positive(grid.scale)):
        sums = tracer.real(sums)
    return sums if bias is None else tracer.add(Affine(shift=bias), sums)
