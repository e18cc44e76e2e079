"""The lowering of transposed convolutions."""

from __future__ import annotations

from typing import Any

import numpy as np

from qframe.deployment.graph.kernels import Kernel, is_integer
from qframe.deployment.graph.operations import Conv2D, Conv2DTranspose, Operation
from qframe.deployment.lowering.products import add_epilogue, kernel_of_image
from qframe.deployment.lowering.shapes import as_before, as_image, of_image
from qframe.deployment.lowering.tracing import Traced, Tracer
from qframe.deployment.lowering.weights import Array, kernel_of
from qframe.layers.padding import transposed_crop


def transposed_convolution(tracer: Tracer, layer: Any, inputs: list[Traced]) -> Traced:
    """Add a transposed convolution of an image or a sequence.

    With strides of 1 it is a convolution with the kernel turned around, dilated or not.
    Keras dilates no other.
    """
    (x,) = inputs
    kernel = kernel_of(layer, "kernel", _outputs_first, tracer.target.floats)
    image = as_image(tracer, x if is_integer(kernel) else tracer.real(x))
    _, *expected, _ = layer.compute_output_shape((1, *x.shape))
    operation = _operation(layer, image.shape[:2], of_image(tuple(expected)), kernel)
    return as_before(tracer, add_epilogue(tracer, layer, tracer.add(operation, image)), x)


def _operation(layer: Any, pixels: Any, size: tuple[int, int], kernel: Any) -> Operation:
    strides, dilation = of_image(layer.strides), of_image(layer.dilation_rate)
    _, *windows, _ = kernel.shape
    reach = [(k - 1) * d + 1 for k, d in zip(windows, dilation, strict=True)]
    crops = [
        transposed_crop(layer.padding, (count - 1) * stride + window - result)
        for count, stride, window, result in zip(pixels, strides, reach, size, strict=True)
    ]
    if strides != (1, 1):
        return Conv2DTranspose(kernel, size, strides, (crops[0], crops[1]))
    pads: list[int] = []
    for count, window, result, crop in zip(pixels, reach, size, crops, strict=True):
        before = window - 1 - crop
        pads += (before, result - count + window - 1 - before)
    return Conv2D(_turned(kernel), dilation=dilation, pads=tuple(pads))  # type: ignore[arg-type]


def _turned(kernel: Any) -> Any:
    """A kernel whose rows and columns are in the reverse order."""
    if is_integer(kernel):
        return Kernel(np.ascontiguousarray(kernel.values[:, ::-1, ::-1]), kernel.scale)
    return np.ascontiguousarray(kernel[:, ::-1, ::-1])


def _outputs_first(kernel: Array) -> Array:
    """(height, width, outputs, inputs) as (outputs, height, width, inputs)."""
    return kernel_of_image(kernel).transpose(2, 0, 1, 3)
