"""Which attributes of a layer class are weights, and where their output channels are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import keras

ChannelAxis = int | tuple[int, ...] | None


def _einsum_output_axes(layer: Any) -> ChannelAxis:
    """The kernel axes of an EinsumDense that survive into its output."""
    operands, output = layer.equation.replace(" ", "").split("->")
    kernel = operands.split(",")[1].replace("...", "")
    return tuple(axis for axis, label in enumerate(kernel) if label in output)


@attrs.frozen
class Weight:
    """A weight of a layer class.

    Args:
        attribute: where the layer keeps the variable, such as ``"depthwise_kernel"``.
        prefix: its name in Keras arguments, such as ``"depthwise"`` in
            ``depthwise_constraint``; its quantizer is ``f"{prefix}_quantizer"``.
        channel_axis: the axis or axes of the output channels; None for a weight without
            them (a bias), a function of the layer where it depends on the layer.
    """

    attribute: str
    prefix: str
    channel_axis: ChannelAxis | Callable[[Any], ChannelAxis] = -1

    def channel_axis_of(self, layer: Any) -> ChannelAxis:
        axis = self.channel_axis
        return axis(layer) if callable(axis) else axis


@attrs.frozen
class Adapter:
    """What qframe knows of a layer class."""

    weights: tuple[Weight, ...]
    pads: bool = False

    @property
    def slots(self) -> tuple[str, ...]:
        """What can hold a quantizer: the input, each weight, the output."""
        return ("input", *(weight.prefix for weight in self.weights), "output")


_BIAS = Weight("bias", "bias", None)
_KERNEL = Weight("kernel", "kernel")
_SEPARABLE = (
    Weight("depthwise_kernel", "depthwise", (-2, -1)),
    Weight("pointwise_kernel", "pointwise"),
    _BIAS,
)
# Keras itself names the kernel of a depthwise convolution `kernel` and its arguments
# `depthwise_*`. Its kernel is (..., channels, multiplier), that of a transposed
# convolution (..., output channels, input channels).
_DEPTHWISE = (Weight("kernel", "depthwise", (-2, -1)), _BIAS)
_TRANSPOSED = (Weight("kernel", "kernel", -2), _BIAS)

ADAPTERS: dict[type, Adapter] = {
    keras.layers.Dense: Adapter((_KERNEL, _BIAS)),
    keras.layers.EinsumDense: Adapter(
        (Weight("kernel", "kernel", _einsum_output_axes), _BIAS)
    ),
    keras.layers.Embedding: Adapter((Weight("embeddings", "embeddings"),)),
    keras.layers.Conv1D: Adapter((_KERNEL, _BIAS), pads=True),
    keras.layers.Conv2D: Adapter((_KERNEL, _BIAS), pads=True),
    keras.layers.Conv3D: Adapter((_KERNEL, _BIAS), pads=True),
    keras.layers.Conv1DTranspose: Adapter(_TRANSPOSED),
    keras.layers.Conv2DTranspose: Adapter(_TRANSPOSED),
    keras.layers.Conv3DTranspose: Adapter(_TRANSPOSED),
    keras.layers.DepthwiseConv1D: Adapter(_DEPTHWISE, pads=True),
    keras.layers.DepthwiseConv2D: Adapter(_DEPTHWISE, pads=True),
    keras.layers.SeparableConv1D: Adapter(_SEPARABLE, pads=True),
    keras.layers.SeparableConv2D: Adapter(_SEPARABLE, pads=True),
}


def adapter_of(cls: type) -> Adapter | None:
    """The adapter of a layer class or of the nearest class that it derives from."""
    return next((ADAPTERS[base] for base in cls.__mro__ if base in ADAPTERS), None)


def slot_attribute(slot: str) -> str:
    """The attribute, argument and config key of a slot."""
    return f"{slot}_quantizer"
