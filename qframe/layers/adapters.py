"""The weights of a layer class, and the axes of their output channels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
import keras

from qframe.errors import AmbiguousNameError, ArgumentError, PluginError
from qframe.keras_internals import input_count
from qframe.layers.table import TABLE, nearest
from qframe.quantizers.channels import ChannelAxis
from qframe.registry.components import AdapterComponent, fault_of_weights
from qframe.registry.discovery import registry


@attrs.frozen
class Weight:
    """A weight of a layer class.

    Args:
        attribute: the attribute of the variable, such as ``"depthwise_kernel"``.
        prefix: its name in Keras arguments, such as ``"depthwise"`` in
            ``depthwise_constraint``; its quantizer is ``f"{prefix}_quantizer"``.
        channel_axis: the axis or axes of the output channels, or of the tokens of an
            embedding; None for a weight without channels (a bias); a function of the layer
            if it depends on the layer.
    """

    attribute: str
    prefix: str
    channel_axis: ChannelAxis | Callable[[Any], ChannelAxis] = -1

    def channel_axis_of(self, layer: Any) -> ChannelAxis:
        """The channel axis or axes in one layer."""
        axis = self.channel_axis
        return axis(layer) if callable(axis) else axis


@attrs.frozen
class Adapter:
    """The weights and abilities of a layer class.

    Args:
        weights: the weights that can be quantized.
        pads: whether the layer takes ``pad_values``.
        activates: whether its call ends with the function ``activation``.
        inputs: the number of tensors in its first argument, if that is a list of them.
    """

    weights: tuple[Weight, ...]
    pads: bool = False
    activates: bool = False
    inputs: int = 0

    @property
    def slots(self) -> tuple[str, ...]:
        """The names of the slots: the input, each weight, the output.

        A list of inputs has a slot for each tensor too, from ``"input_1"``; what enters
        the activation has ``"preactivation"``.
        """
        inputs = (f"input_{i}" for i in range(1, self.inputs + 1))
        weights = (weight.prefix for weight in self.weights)
        middle = ("preactivation",) if self.activates else ()
        return ("input", *inputs, *weights, *middle, "output")


def is_activation(slot: str) -> bool:
    """Return whether the slot of this name is that of an activation, not of a weight."""
    return slot in ("input", "preactivation", "output") or (
        slot.startswith("input_") and slot[6:].isdecimal()
    )


# The adapters of Keras layers.
ADAPTERS: dict[type, Adapter] = {
    cls: Adapter(tuple(Weight(*weight) for weight in row.weights), row.pads, row.activates)
    for cls, row in TABLE.items()
    if row.weights
}

# The layers that have an explicit class, such as QuantDense.
EXPLICIT = {cls: adapter for cls, adapter in ADAPTERS.items() if TABLE[cls].explicit}


def register_layer(cls: type, *, channel_axis: ChannelAxis = -1, **weights: str) -> None:
    """Declare the attributes of a layer class that are weights to quantize.

    Args:
        cls: a subclass of `keras.layers.Layer`.
        channel_axis: the axis or axes of the output channels of these weights; a bias has
            none. ``(0, -1)`` for stacked kernels of experts, which share no channels.
            Default -1.
        **weights: prefix = attribute; with ``kernel="w"``, ``kernel_quantizer`` and
            ``kernel_constraint`` apply to ``layer.w``. A weight in a list needs a separate
            attribute, which ``call`` reads.

    Raises:
        ArgumentError: `cls` is not a layer class, or no weight is named.

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
    if fault := fault_of_weights(weights):
        raise ArgumentError(
            f"register_layer needs the weights of {cls.__name__} by their "
            f"attributes; {fault}. Write for example register_layer({cls.__name__}, "
            "kernel='w')."
        )
    registry.local_layers[cls] = _adapter(weights, channel_axis)


def _adapter(weights: Mapping[str, str], channel_axis: ChannelAxis) -> Adapter:
    return Adapter(
        tuple(
            Weight(attribute, prefix, None if prefix == "bias" else channel_axis)
            for prefix, attribute in weights.items()
        )
    )


def adapter_of(cls: type) -> Adapter | None:
    """The adapter of a layer class or of the nearest base class that has one.

    For one class, a registration in this process precedes those of plugins.

    Raises:
        PluginError: an adapter for a class of that package does not lead to a layer class.
        AmbiguousNameError: plugins disagree about the weights of the class.
    """
    return _adapter_and_origins(cls)[0]


def full_adapter_of(layer: Any) -> Adapter | None:
    """The adapter of a layer, or one for the activations of a layer that has none.

    Recipes quantize the tensors between layers, such as the output of a ReLU.
    """
    adapter = adapter_of(type(layer))
    if adapter is not None:
        return adapter
    row = nearest(TABLE, type(layer))
    if row is None or row.lowering is None or row.opaque:
        return None
    weights = tuple(Weight(*weight) for weight in row.folded)
    return Adapter(weights, inputs=input_count(layer))


def origins_of(cls: type) -> Sequence[AdapterComponent]:
    """The plugin components of the result of `adapter_of`; empty without a plugin."""
    return _adapter_and_origins(cls)[1]


def _adapter_and_origins(cls: type) -> tuple[Adapter | None, Sequence[AdapterComponent]]:
    by_package = registry.adapters()
    for base in cls.__mro__:
        for adapters in (registry.local_layers, ADAPTERS):
            if base in adapters:
                return adapters[base], ()
        # To load a component imports its package, so only those of this package are loaded.
        candidates = by_package.get(base.__module__.partition(".")[0], ())
        components = [c for c in candidates if _layer_class(c) is base]
        if components:
            return _common_adapter(components), components
    return None, ()


def _layer_class(component: AdapterComponent) -> Any:
    cls = registry.load(component)
    if isinstance(cls, type) and issubclass(cls, keras.layers.Layer):
        return cls
    raise PluginError(
        f"adapter '{component.qualified_name}' (distribution {component.distribution}) "
        f"points at {component.target}, which is not a Keras layer class but {cls!r}. "
        f"Upgrade that distribution, or set QFRAME_DISABLE_PLUGINS={component.namespace}."
    )


def _common_adapter(components: Sequence[AdapterComponent]) -> Adapter:
    adapter, *others = (_adapter(dict(c.weights), c.channel_axis) for c in components)
    if any(other != adapter for other in others):
        name = components[0].name
        raise AmbiguousNameError(
            f"plugins differ in what the weights of {name} are: "
            f"{', '.join(repr(c.qualified_name) for c in components)}. Decide with "
            f"qframe.register_layer({name}, ...), or set QFRAME_DISABLE_PLUGINS to one of "
            "these namespaces."
        )
    return adapter


def is_tied(layer: Any) -> bool:
    """Return whether an embedding multiplies with the rows that it looks up."""
    is_embedding = isinstance(layer, keras.layers.Embedding)
    return is_embedding and bool(getattr(layer, "tie_weights", False))


def slot_attribute(slot: str) -> str:
    """The attribute, argument and config key of a slot."""
    return f"{slot}_quantizer"
