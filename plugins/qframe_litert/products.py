"""Operators with kernels: convolutions and dense layers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from qframe.deployment.graph.fused import Fused
from qframe.deployment.graph.kernels import Kernel
from qframe.deployment.graph.operations import Conv2D
from qframe.deployment.graph.values import Value
from qframe.errors import QFrameError
from qframe_litert.epilogues import Epilogue
from qframe_litert.model import Options
from qframe_litert.windows import padding_of
from qframe_litert.writer import Edge, Writer

Array = NDArray[Any]
_LARGEST = {"int8": 2**7 - 1, "int4": 2**3 - 1}
# The version in which an operator got weights of 4 bits.
_FOUR_BITS = {"CONV_2D": 7, "DEPTHWISE_CONV_2D": 7, "FULLY_CONNECTED": 12}
_GROUPED = 6


def convolution(writer: Writer, fused: Fused, x: Edge, value: Value) -> Edge:
    """Write a convolution: depthwise, grouped, or over all channels."""
    conv: Any = fused.operation
    padding, x = padding_of(writer, x, conv, conv.reach, conv.pad)
    settings = {
        "Padding": padding,
        "StrideH": conv.strides[0],
        "StrideW": conv.strides[1],
        "DilationHFactor": conv.dilation[0],
        "DilationWFactor": conv.dilation[1],
    }
    kernel = conv.kernel.integers()
    if conv.groups == x.shape[2] and kernel.shape[3] == 1 and conv.groups > 1:
        settings["DepthMultiplier"] = len(kernel) // conv.groups
        kernel = kernel.transpose(3, 1, 2, 0)
        return _product(writer, fused, x, value, "DEPTHWISE_CONV_2D", kernel, settings)
    version = _GROUPED if conv.groups > 1 else None
    return _product(writer, fused, x, value, "CONV_2D", kernel, settings, version)


def dense(writer: Writer, fused: Fused, x: Edge, value: Value) -> Edge:
    """Write a dense layer along the last axis."""
    product: Any = fused.operation
    settings = {"KeepNumDims": True} if len(x.shape) > 1 else {}
    kernel = product.kernel.integers()
    return _product(writer, fused, x, value, "FULLY_CONNECTED", kernel, settings)


def _product(
    writer: Writer,
    fused: Fused,
    x: Edge,
    value: Value,
    code: str,
    kernel: Array,
    settings: dict[str, Any],
    version: int | None = None,
) -> Edge:
    product: Any = fused.operation
    dtype, sixteen = writer.settings.weights, writer.settings.activations == "int16"
    largest = int(np.abs(kernel.astype(np.int64)).max())
    four = dtype == "int4" and largest <= _LARGEST["int4"]
    if four and sixteen and code != "FULLY_CONNECTED":
        raise QFrameError(
            f"the runtime computes {code} of int16 activations and int4 weights wrongly. "
            "Write weights='int8'"
        )
    if largest > _LARGEST["int8"]:
        raise QFrameError(
            f"its kernel has integers up to {largest}, and int8 weights reach from -127 to "
            "127. Quantize it to 8 bits or fewer, with narrow_range=True"
        )
    axis = 3 if code == "DEPTHWISE_CONV_2D" else 0
    scale = np.broadcast_to(product.kernel.scale, fused.scale.shape)
    data = nibbles(kernel) if four else kernel.astype(np.int8)
    kind = "int4" if four else "int8"
    weights = writer.weights("kernel", data, kind, scale, kernel.shape, axis)
    bias = fused.bias.astype(np.int64 if sixteen else np.int32)
    biases = writer.weights("bias", bias, bias.dtype.name, fused.scale)
    epilogue = Epilogue.of(writer, fused.activation, value)
    out = writer.activation(value, epilogue.name)
    version = _FOUR_BITS[code] if four else version
    settings["FusedActivationFunction"] = epilogue.function
    options = Options(_OPTIONS[code], settings)
    writer.operator(code, (x.index, weights, biases), out.index, options, version)
    return epilogue.finish(writer, out)


_OPTIONS = {
    "CONV_2D": "Conv2DOptions",
    "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions",
    "FULLY_CONNECTED": "FullyConnectedOptions",
}


def nibbles(integers: Array) -> Array:
    """Integers of 4 bits, two in a byte, the first one in the lower half."""
    halves = integers.reshape(-1).astype(np.uint8) & 15
    halves = np.append(halves, np.zeros(len(halves) % 2, np.uint8))
    return np.asarray(halves[0::2] | halves[1::2] << 4)


def channelwise(
    writer: Writer,
    x: Edge,
    value: Value,
    kernel: Array,
    scale: Any,
    shift: Any,
    activation: Any = None,
    strides: tuple[int, int] = (1, 1),
) -> Edge:
    """Write a depthwise convolution with a kernel that the graph does not have.

    Args:
        writer: writes it.
        x: an image.
        value: the result.
        kernel: integers (channels, height, width, 1).
        scale: for each channel, of the kernel, positive.
        shift: for each channel, added to the real numbers.
        activation: a ReLU. Default None.
        strides: of the windows. Default 1.
    """
    conv = Conv2D(Kernel(kernel, scale), strides=strides, groups=x.shape[2])
    step = np.float64(x.grid.scale) * scale.astype(float)
    bias = np.rint(np.asarray(shift, float) / step)
    if np.abs(bias).max() >= 2**31:
        raise QFrameError(
            "its shift needs more than 32 bits in steps of its input times its scale"
        )
    fused = Fused(conv, (x.grid.scale,), bias.astype(np.int64), activation)
    return convolution(writer, fused, x, value)
