"""What goes into the slots of a layer, a live view of them, and the way back to one."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, MutableMapping
from typing import Any

from qframe import quantizers
from qframe.errors import ArgumentError
from qframe.layers.adapters import slot_attribute
from qframe.layers.traces import changing
from qframe.quantizers import Quantizer

ACTIVATIONS = ("input", "output")


def placed(slot: str, quantizer: Any) -> Any:
    """What goes into a slot: the quantizer, told whether its first axis is the batch.

    One object cannot be told both. So where it is in a slot of the other kind already,
    another one goes into this slot.

    Raises:
        ArgumentError: it has state from there, which another one would not have.
    """
    if not isinstance(quantizer, Quantizer):
        return quantizer
    batched = slot in ACTIVATIONS
    if quantizer.batched is not None and quantizer.batched is not batched:
        if quantizer.weights:
            kinds = "a weight", "activations"
            raise ArgumentError(
                f"{quantizer!r} has learned or gathered what is right for "
                f"{kinds[quantizer.batched]}, and {slot}_quantizer is for "
                f"{kinds[batched]}. Give that slot a quantizer of its own."
            )
        quantizer = type(quantizer)(**quantizer.parameters)
    quantizer.batched = batched
    return quantizer


class Slots(MutableMapping[str, Any]):
    """Slot -> quantizer; an empty slot is not in it."""

    def __init__(self, layer: Any) -> None:
        self._layer = layer

    def __iter__(self) -> Iterator[str]:
        for slot in self._layer.adapter.slots:
            if getattr(self._layer, slot_attribute(slot), None) is not None:
                yield slot

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
        with changing([self._layer]):
            self._layer.set_slot(slot, quantizer)

    def __repr__(self) -> str:
        return repr(dict(self))


_SLOT = "_qframe_slot"


def put_behind(variable: Any, layer: Any, slot: str) -> None:
    """Let a latent variable know the slot that it is behind."""
    # Weakly, as the layer holds the variable; and no quantizer, which may be replaced.
    setattr(variable, _SLOT, (weakref.ref(layer), slot_attribute(slot)))


def quantizer_of(variable: Any) -> Any:
    """The quantizer of the slot that a latent variable is behind, now.

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
