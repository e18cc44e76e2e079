"""Which attributes of a layer class are weights, and where their output channels are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import keras

from qframe.errors import ArgumentError
from qframe.keras_internals import ConvLSTMCell
from qframe.quantizers.channels import ChannelAxis


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

# The layers that have an explicit class, such as QuantDense.
EXPLICIT: dict[type, Adapter] = {
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

# The weights of a recurrent layer are those of its cell.
_CELL = Adapter((_KERNEL, Weight("recurrent_kernel", "recurrent"), _BIAS))

ADAPTERS: dict[type, Adapter] = {
    **EXPLICIT,
    keras.layers.SimpleRNNCell: _CELL,
    keras.layers.LSTMCell: _CELL,
    keras.layers.GRUCell: _CELL,
    ConvLSTMCell: _CELL,
}


def register_layer(cls: type, *, channel_axis: ChannelAxis = -1, **weights: str) -> None:
    """Say which attributes of a layer class are weights that can be quantized.

    Args:
        cls: a subclass of `keras.layers.Layer`.
        channel_axis: where the output channels of these weights are. Default -1.
        **weights: prefix = attribute; ``kernel="w"`` says that ``layer.w`` is what
            ``kernel_quantizer`` and ``kernel_constraint`` are about.

    Raises:
        ArgumentError: `cls` is no layer class, or no weight is named.

    Example:
        >>> import keras, qframe as qf
        >>> class Scale(keras.layers.Layer):
        ...     def build(self, shape):
        ...         self.w = self.add_weight(name="w", shape=shape[-1:])
        ...     def call(self, x):
        ...         return x * self.w
        >>> qf.register_layer(Scale, kernel="w")
    """
    if not (isinstance(cls, type) and issubclass(cls, keras.layers.Layer)):
        raise ArgumentError(f"register_layer takes a Keras layer class, found {cls!r}.")
    wrong = [a for a in weights.values() if not isinstance(a, str) or not a.isidentifier()]
    if not weights or wrong:
        raise ArgumentError(
            f"register_layer needs the weights of {cls.__name__} by their attributes, "
            f"found {weights}. Write for example register_layer({cls.__name__}, "
            "kernel='w')."
        )
    ADAPTERS[cls] = Adapter(
        tuple(Weight(attribute, p, channel_axis) for p, attribute in weights.items())
    )


def adapter_of(cls: type) -> Adapter | None:
    """The adapter of a layer class or of the nearest class that it derives from."""
    return next((ADAPTERS[base] for base in cls.__mro__ if base in ADAPTERS), None)


def slot_attribute(slot: str) -> str:
    """The attribute, argument and config key of a slot."""
    return f"{slot}_quantizer"
