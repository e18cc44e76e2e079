"""A live view of the slots of a layer."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from typing import Any

from qframe import quantizers
from qframe.errors import ArgumentError
from qframe.layers.adapters import slot_attribute


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
        self._layer.set_slot(slot, quantizers.get(quantizer))

    def __delitem__(self, slot: str) -> None:
        self[slot]  # a KeyError where it is empty
        self._layer.set_slot(slot, None)

    def __repr__(self) -> str:
        return repr(dict(self))
