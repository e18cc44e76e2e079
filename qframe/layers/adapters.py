"""Which attributes of a layer class are weights, and where their output channels are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
import keras

from qframe.errors import AmbiguousNameError, ArgumentError, PluginError
from qframe.layers.table import TABLE
from qframe.quantizers.channels import ChannelAxis
from qframe.registry.components import AdapterComponent, fault_of_weights
from qframe.registry.discovery import registry


@attrs.frozen
class Weight:
    """A weight of a layer class.

    Args:
        attribute: where the layer keeps the variable, such as ``"depthwise_kernel"``.
        prefix: its name in Keras arguments, such as ``"depthwise"`` in
            ``depthwise_constraint``; its quantizer is ``f"{prefix}_quantizer"``.
        channel_axis: the axis or axes of the output channels, or of the tokens of an
            embedding; None for a weight without them (a bias), a function of the layer
            where it depends on the layer.
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
    """What qframe knows of a layer class."""

    weights: tuple[Weight, ...]
    pads: bool = False

    @property
    def slots(self) -> tuple[str, ...]:
        """What can hold a quantizer: the input, each weight, the output."""
        return ("input", *(weight.prefix for weight in self.weights), "output")


# The layers that have an explicit class, such as QuantDense.
EXPLICIT: dict[type, Adapter] = {
    cls: Adapter(tuple(Weight(*weight) for weight in row.weights), row.pads)
    for cls, row in TABLE.items()
    if row.explicit
}

# Those of Keras.
ADAPTERS: dict[type, Adapter] = {
    **EXPLICIT,
    **{
        cls: Adapter(tuple(Weight(*weight) for weight in row.weights))
        for cls, row in TABLE.items()
        if row.weights and not row.explicit
    },
}


def register_layer(cls: type, *, channel_axis: ChannelAxis = -1, **weights: str) -> None:
    """Say which attributes of a layer class are weights that can be quantized.

    Args:
        cls: a subclass of `keras.layers.Layer`.
        channel_axis: where the output channels of these weights are; a bias has none.
            ``(0, -1)`` for stacked kernels of experts, which share no channels.
            Default -1.
        **weights: prefix = attribute; ``kernel="w"`` says that ``layer.w`` is what
            ``kernel_quantizer`` and ``kernel_constraint`` are about. A weight in a list
            takes an attribute for itself, which ``call`` reads.

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
    """The adapter of a layer class or of the nearest class that it derives from.

    Of one class, what this process registered goes before what plugins offer.

    Raises:
        PluginError: an adapter for a class of that package does not lead to a layer class.
        AmbiguousNameError: plugins differ in what the weights of the class are.
    """
    return _known(cls)[0]


def origins_of(cls: type) -> Sequence[AdapterComponent]:
    """The components that `adapter_of` is from; none where no plugin offers it."""
    return _known(cls)[1]


def _known(cls: type) -> tuple[Adapter | None, Sequence[AdapterComponent]]:
    offered = registry.adapters()
    for base in cls.__mro__:
        for own in (registry.local_layers, ADAPTERS):
            if base in own:
                return own[base], ()
        # Only what is about its package is loaded: nothing is imported for strangers.
        if offered and (known := offered.get(base.__module__.partition(".")[0])):
            found = [c for c in known if _layer_class(c) is base]
            if found:
                return _agreed(found), found
    return None, ()


def _layer_class(component: AdapterComponent) -> Any:
    cls = registry.load(component)
    if isinstance(cls, type) and issubclass(cls, keras.layers.Layer):
        return cls
    raise PluginError(
        f"adapter '{component.qualified_name}' (distribution {component.distribution}) "
        f"points at {component.target}, which is no Keras layer class but {cls!r}. Upgrade "
        f"that distribution, or set QFRAME_DISABLE_PLUGINS={component.namespace}."
    )


def _agreed(found: Sequence[AdapterComponent]) -> Adapter:
    first, *others = (_adapter(dict(c.weights), c.channel_axis) for c in found)
    if any(other != first for other in others):
        name = found[0].name
        raise AmbiguousNameError(
            f"plugins differ in what the weights of {name} are: "
            f"{', '.join(repr(c.qualified_name) for c in found)}. Decide with "
            f"qframe.register_layer({name}, ...), or set QFRAME_DISABLE_PLUGINS to one of "
            "these namespaces."
        )
    return first


def slot_attribute(slot: str) -> str:
    """The attribute, argument and config key of a slot."""
    return f"{slot}_quantizer"
