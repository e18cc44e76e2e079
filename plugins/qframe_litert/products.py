"""Operators with kernels: convolutions and dense layers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from qframe.deployment.graph.fused import Fused
from qframe.deployment.graph.kernels import Kernel, is_integer, per_output
from qframe.deployment.graph.operations import Conv2D
from qframe.deployment.graph.values import Value
from qframe.errors import QFrameError
from qframe_litert.epilogues import Epilogue
from qframe_litert.grids import ENDS
from qframe_litert.model import Options
from qframe_litert.sums import Sums
from qframe_litert.windows import padding_of
from qframe_litert.writer import Writer, Written

Array = NDArray[Any]
_LARGEST = {"int8": 2**7 - 1, "int4": 2**3 - 1}
# The version in which an operator got weights of 4 bits.
_FOUR_BITS = {"CONV_2D": 7, "DEPTHWISE_CONV_2D": 7, "FULLY_CONNECTED": 12}
# XNNPACK multiplies sums of such weights, and their biases, by 16.
_MOST_OF_FOUR_BITS = 2**26
_GROUPED = 6
_MOST_STEPS = 256


def convolution(writer: Writer, fused: Fused, x: Written, value: Value) -> Written:
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
    if conv.groups == x.shape[2] and conv.kernel.shape[3] == 1:
        settings["DepthMultiplier"] = conv.kernel.shape[0] // conv.groups
        return product(writer, fused, x, value, "DEPTHWISE_CONV_2D", settings)
    version = _GROUPED if conv.groups > 1 else None
    return product(writer, fused, x, value, "CONV_2D", settings, version)


def dense(writer: Writer, fused: Fused, x: Written, value: Value) -> Written:
    """Write a dense layer along the last axis."""
    settings = {"KeepNumDims": True} if len(x.shape) > 1 else {}
    return product(writer, fused, x, value, "FULLY_CONNECTED", settings)


def product(
    writer: Writer,
    fused: Fused,
    x: Written,
    value: Value,
    code: str,
    settings: dict[str, Any],
    version: int | None = None,
    shape: int | None = None,
) -> Written:
    """Write an operator with a kernel and biases.

    Args:
        writer: writes it.
        fused: the product with its epilogue, which floats are left without.
        x: what it reads.
        value: the result.
        code: the operator.
        settings: its options.
        version: another version than that of the activations. Default None.
        shape: the tensor with the shape of the result, which a transposed convolution
            takes. Default None.
    """
    if x.grid is None:
        tensors = _float_weights(writer, fused, code)
        return _operator(writer, tensors, x, value, code, settings, version, shape)
    sums = Sums.of(fused, writer.stored(x.grid), writer.stored(value.grid))
    _check_multiplier(writer, sums, value)
    kernel, axis = _laid_out(sums.kernel, code)
    bias = _within_reach(writer, sums, x, value)
    two_levels = writer.stored(value.grid).factor > 1
    kind = _kind(writer, code, kernel, bias, two_levels)
    data = nibbles(kernel) if kind == "int4" else kernel.astype(np.int8)
    weights = writer.weights("kernel", data, kind, sums.scale, kernel.shape, axis)
    wide = "int64" if writer.settings.activations == "int16" else "int32"
    if np.abs(bias).max() >= 2**31:
        raise QFrameError("its bias needs more than 32 bits in steps of its sums")
    biases = writer.weights("bias", bias.astype(wide), wide, sums.step)
    epilogue = Epilogue.of(writer, fused.activation, value, fuses=shape is None)
    if shape is None:
        settings["FusedActivationFunction"] = epilogue.function
    version = _FOUR_BITS[code] if kind == "int4" else version
    tensors = weights, biases
    out = _operator(writer, tensors, x, value, code, settings, version, shape)
    return epilogue.finish(writer, out)


def _operator(
    writer: Writer,
    tensors: tuple[int, int],
    x: Written,
    value: Value,
    code: str,
    settings: dict[str, Any],
    version: int | None,
    shape: int | None,
) -> Written:
    """Write an operator with the tensors of its kernel and its biases."""
    out, (weights, biases) = writer.activation("sums", value), tensors
    inputs: tuple[int, ...] = x.index, weights, biases
    if shape is not None:
        inputs = shape, weights, x.index, biases
    writer.operator(code, inputs, out.index, Options(_OPTIONS[code], settings), version)
    return out


def _laid_out(kernel: Array, code: str) -> tuple[Array, int]:
    """A kernel as an operator reads it, and the axis of its outputs."""
    if code == "DEPTHWISE_CONV_2D":
        return kernel.transpose(3, 1, 2, 0), 3
    return kernel, 0


def _float_weights(writer: Writer, fused: Fused, code: str) -> tuple[int, int]:
    """Add the real numbers of a kernel and of its biases."""
    product: Any = fused.operation
    kernel, bias = product.kernel, fused.bias
    if is_integer(kernel):
        scale = np.broadcast_to(kernel.scale, kernel.shape[:1])
        kernel = kernel.integers() * per_output(scale, kernel)
    if bias is None:
        bias = np.zeros(kernel.shape[0])
    elif bias.dtype.kind == "i":
        bias = bias * fused.scale
    kernel, _ = _laid_out(kernel, code)
    weights = writer.constant("kernel", kernel, "float32")
    return weights, writer.constant("bias", bias, "float32")


def _check_multiplier(writer: Writer, sums: Sums, value: Value) -> None:
    """Raise `QFrameError` for sums whose steps XNNPACK refuses, with the whole file."""
    steps = float(np.max(sums.step)) / writer.stored(value.grid).scale
    if writer.settings.activations == "int8" and steps >= _MOST_STEPS:
        raise QFrameError(
            f"1 in its sums is {steps:.0f} steps of its result, and the runtime computes "
            f"with fewer than {_MOST_STEPS}. Quantize its result with a larger range"
        )


def _within_reach(writer: Writer, sums: Sums, x: Written, value: Value) -> Array:
    """The biases, without what is beyond all results: these saturate anyway.

    The built-in kernels shift sums to the left, where a larger bias overflows.
    """
    stored, span = writer.stored(x.grid), x.grid.span
    largest = stored.factor * max(abs(span.low), abs(span.high))
    products = np.abs(sums.kernel).sum(axis=tuple(range(1, sums.kernel.ndim))) * largest
    low, high = ENDS[writer.settings.activations]
    steps = sums.step / writer.stored(value.grid).scale
    reach = products + np.minimum(np.ceil(2 * (high - low) / steps), 2.0**31)
    return np.asarray(np.clip(sums.bias, -reach, reach).astype(np.int64))


def _kind(writer: Writer, code: str, kernel: Array, bias: Array, two_levels: bool) -> str:
    """The type that stores a kernel; raises `QFrameError` if none does."""
    largest = int(np.abs(kernel).max())
    if largest > _LARGEST["int8"]:
        if two_levels:
            raise QFrameError(
                "it returns two levels, for which the file doubles its weights of 8 bits, "
                "and int8 weights reach from -127 to 127. Quantize them to 7 bits, or put "
                "a quantizer of more levels before the one of two"
            )
        raise QFrameError(
            f"its kernel has integers up to {largest} in the file, and int8 weights reach "
            "from -127 to 127. Quantize it to fewer bits, or with narrow_range=True"
        )
    if (
        code not in _FOUR_BITS
        or writer.settings.weights == "int8"
        or largest > _LARGEST["int4"]
        or np.abs(bias).max() >= _MOST_OF_FOUR_BITS
    ):
        return "int8"
    if writer.settings.activations == "int16" and code != "FULLY_CONNECTED":
        raise QFrameError(
            f"the runtime computes {code} of int16 activations and int4 weights wrongly. "
            "Write weights='int8'"
        )
    return "int4"


_OPTIONS = {
    "CONV_2D": "Conv2DOptions",
    "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions",
    "FULLY_CONNECTED": "FullyConnectedOptions",
    "TRANSPOSE_CONV": "TransposeConvOptions",
}


def nibbles(integers: Array) -> Array:
    """Integers of 4 bits, two in a byte, the first one in the lower half."""
    halves = integers.reshape(-1).astype(np.uint8) & 15
    halves = np.append(halves, np.zeros(len(halves) % 2, np.uint8))
    return np.asarray(halves[0::2] | halves[1::2] << 4)


def channelwise(
    x: Written,
    kernel: Array,
    scale: Array,
    shift: Array,
    after: Fused,
    strides: tuple[int, int] = (1, 1),
) -> Fused:
    """A depthwise convolution that the graph does not have.

    Args:
        x: an image.
        kernel: an integer of each channel, or (channels, height, width).
        scale: for each channel, of the kernel, positive.
        shift: for each channel, added to the real numbers.
        after: has the epilogue.
        strides: of the windows. Default 1.
    """
    kernel = kernel if kernel.ndim > 1 else kernel.reshape(-1, 1, 1)
    scale = scale.astype(np.float32)
    conv = Conv2D(Kernel(kernel[..., None], scale), strides, groups=len(kernel))
    bias = np.rint(shift / (np.float64(x.grid.scale) * scale.astype(float)))
    scales = (x.grid.scale,)
    return Fused(conv, scales, bias.astype(np.int64), after.activation, after.quantize)
