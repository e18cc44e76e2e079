"""The slots of a layer: the tensors that can be quantized, and their quantizers."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator, MutableMapping, Sequence
from typing import Any

import attrs
from keras import ops, tree

from qframe import context, quantizers
from qframe.errors import ArgumentError
from qframe.keras_internals import latent_value
from qframe.layers.adapters import (
    Adapter,
    Weight,
    adapter_of,
    full_adapter_of,
    is_activation,
    slot_attribute,
)
from qframe.layers.application import errors_located, path_of, quantized
from qframe.layers.substitution import is_substituted, latent
from qframe.layers.sums import sums_of
from qframe.layers.traces import changing
from qframe.quantizers import Integers, Quantizer
from qframe.quantizers.channels import ChannelAxis
from qframe.quantizers.rounded import Corrected, Rounded

# The activations that every layer has.
ACTIVATIONS = ("input", "output")


# Not frozen, which torch.compile cannot trace; nothing assigns to a slot.
@attrs.define(eq=False)
class Slot:
    """The place of a quantizer: the input of a layer, one of its weights, or its output.

    Args:
        layer: the layer.
        name: one of `Adapter.slots`, such as ``"input"``, ``"kernel"`` and ``"output"``;
            empty for a quantizer that is a layer itself.
        quantizer: the quantizer; None where the slot is empty.
        weight: the weight as the adapter describes it; None for an activation.
        path: of the layer in its model; empty where only the layer is known.
    """

    layer: Any
    name: str
    quantizer: Any = None
    weight: Weight | None = None
    path: str = ""

    @property
    def key(self) -> str:
        """The attribute, argument and config key, such as ``"kernel_quantizer"``."""
        return slot_attribute(self.name) if self.name else "quantizer"

    @property
    def attribute(self) -> str:
        """The attribute of the weight; that of the slot itself for an activation."""
        return self.key if self.weight is None else self.weight.attribute

    @property
    def is_activation(self) -> bool:
        """Return whether the slot is that of an activation, such as the input."""
        return self.weight is None

    @property
    def variable(self) -> Any:
        """The latent variable.

        None for an activation, for a layer that is not built, and for a bias under
        ``use_bias=False``.
        """
        try:
            return None if self.is_activation else latent(self.layer, self.attribute)
        except AttributeError:
            return None

    @property
    def variable_path(self) -> str:
        """The path of the layer and the attribute, such as ``"head/kernel"``."""
        return f"{self.path}/{self.attribute}"

    @property
    def channel_axis(self) -> ChannelAxis:
        """The axis or axes of the channels; None for a weight without them."""
        if self.weight is not None:
            return self.weight.channel_axis_of(self.layer)
        data_format = getattr(self.layer, "data_format", None)
        return 1 if data_format == "channels_first" else -1

    def latent_value(self) -> Any:
        """The value of the latent variable, in its own dtype."""
        return latent_value(self.variable)

    def quantized_value(self) -> Any:
        """The quantized value of the weight, in the dtype of the latent variable."""
        value = self.latent_value()
        with errors_located(path_of(self.layer), self.name, tuple(value.shape)):
            return quantized(self.quantizer, value, self.channel_axis, **self._sums())

    def integers(self) -> Integers:
        """The integers of the weight; those of a folded weight are of the whole bias.

        Raises:
            QFrameError: the quantizer states none.
        """
        return self.quantizer.integers(
            self.latent_value(), self.channel_axis, **self._sums()
        )

    def _sums(self) -> dict[str, Any]:
        """The arguments of a quantizer whose grid is that of sums."""
        if not (isinstance(self.quantizer, Quantizer) and self.quantizer.traits.sums):
            return {}
        sums = sums_of(self.layer, self.name)
        return {} if sums is None else {"step": sums.step, "shift": sums.shift}

    def quantize(self, tensors: Any) -> Any:
        """Quantize an activation: a tensor, or every tensor of a nested structure."""
        quantizer, axis = self.quantizer, self.channel_axis
        with errors_located(path_of(self.layer), self.name):
            return tree.map_structure(lambda x: quantized(quantizer, x, axis), tensors)


# From a layer to its filled slots.
SlotsOf = Callable[[Any], Sequence[Slot]]


def slots_of(layer: Any) -> list[Slot]:
    """Every slot of a layer, filled or empty; none for a layer without an adapter."""
    adapter = getattr(type(layer), "adapter", None)
    if not isinstance(adapter, Adapter):
        adapter = adapter_of(type(layer))
    return [] if adapter is None else _slots(layer, adapter)


def possible_slots(layer: Any) -> list[Slot]:
    """Every slot that a layer has or can be given, such as the output of a ReLU."""
    own = slots_of(layer)
    adapter = None if own else full_adapter_of(layer)
    return own if adapter is None else _slots(layer, adapter)


def _slots(layer: Any, adapter: Adapter) -> list[Slot]:
    weights = {weight.prefix: weight for weight in adapter.weights}
    return [
        Slot(layer, name, getattr(layer, slot_attribute(name), None), weights.get(name))
        for name in adapter.slots
    ]


def slot_of(layer: Any, name: str) -> Slot:
    """The slot of a layer by its name."""
    return next(slot for slot in slots_of(layer) if slot.name == name)


def filled_slots(layer: Any) -> list[Slot]:
    """The slots of a layer that have a quantizer; one for a quantizer in a graph."""
    if isinstance(getattr(type(layer), "adapter", None), Adapter):
        return [slot for slot in slots_of(layer) if slot.quantizer is not None]
    return [Slot(layer, "", layer)] if isinstance(layer, Quantizer) else []


def weight_slots(layer: Any) -> list[Slot]:
    """The filled slots of the weights that a layer has."""
    return [slot for slot in filled_slots(layer) if slot.variable is not None]


def running_slots(layer: Any) -> list[Slot]:
    """The filled slots of a layer whose quantizers run in this call."""
    idle = context.idle_slots(layer)
    return [
        slot
        for slot in filled_slots(layer)
        if slot.name not in idle and not is_substituted(layer, slot.attribute)
    ]


def values_in_call(layer: Any, running: Iterable[Slot]) -> dict[str, Any]:
    """The values that weights read as in a call, by attribute."""
    return {
        slot.attribute: ops.cast(slot.quantized_value(), layer.compute_dtype)
        for slot in running
        if slot.variable is not None
    }


def quantizer_for_slot(slot: str, quantizer: Any) -> Any:
    """The quantizer for a slot, configured for a batch of activations or for a weight.

    One object cannot serve both. If it is already in a slot of the other kind, the result
    is a new one with the same parameters.

    Raises:
        ArgumentError: it has state from there, which a new one would lack.
    """
    if not isinstance(quantizer, Quantizer):
        return quantizer
    batched = is_activation(slot)
    if quantizer.batched is not None and quantizer.batched is not batched:
        if quantizer.weights:
            kinds = "a weight", "activations"
            raise ArgumentError(
                f"{quantizer!r} has learned or gathered what is right for "
                f"{kinds[quantizer.batched]}, and {slot}_quantizer is for "
                f"{kinds[batched]}. Give that slot a separate quantizer."
            )
        quantizer = type(quantizer)(**quantizer.parameters)
    quantizer.batched = batched
    return quantizer


class Slots(MutableMapping[str, Any]):
    """The quantizers of the filled slots by the name of the slot."""

    def __init__(self, layer: Any) -> None:
        self._layer = layer

    def __iter__(self) -> Iterator[str]:
        return (slot.name for slot in filled_slots(self._layer))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __getitem__(self, slot: str) -> Any:
        quantizer = getattr(self._layer, slot_attribute(slot), None)
        if quantizer is None:
            raise KeyError(slot)
        return quantizer

    def __setitem__(self, slot: str, quantizer: Any) -> None:
        slots = self._layer.adapter.slots
        if slot not in slots:
            raise ArgumentError(
                f"{self._layer!r} has no slot {slot!r}; it has {', '.join(slots)}."
            )
        self._put(slot, quantizers.get(quantizer))

    def __delitem__(self, slot: str) -> None:
        self[slot]  # a KeyError where it is empty
        self._put(slot, None)

    def _put(self, slot: str, quantizer: Any) -> None:
        before, bias = self.get(slot), self.get("bias")
        with changing([self._layer]):
            self._layer.set_slot(slot, quantizer)
            # A correction is for the levels that the weight was rounded to.
            if isinstance(before, Rounded) and isinstance(bias, Corrected):
                self._layer.set_slot("bias", bias.inner)

    def __repr__(self) -> str:
        return repr(dict(self))


_SLOT = "_qframe_slot"


def link_to_slot(variable: Any, layer: Any, slot: str) -> None:
    """Store a reference to its slot on a latent variable."""
    # Weakly, as the layer refers to the variable; not the quantizer, which may be replaced.
    setattr(variable, _SLOT, (weakref.ref(layer), slot_attribute(slot)))


def quantizer_of(variable: Any) -> Any:
    """The current quantizer of a latent variable.

    Args:
        variable: a weight of a layer, as in ``model.trainable_variables``.

    Returns:
        The quantizer; None for a variable that is not quantized.

    Example:
        >>> import qframe as qf
        >>> layer = qf.layers.QuantDense(4, kernel_quantizer="noop(precision=1)")
        >>> layer.build((None, 8))
        >>> qf.layers.quantizer_of(layer.kernel)
        binary:noop(precision=1)
    """
    layer, attribute = getattr(variable, _SLOT, (lambda: None, ""))
    return getattr(layer(), attribute, None)
