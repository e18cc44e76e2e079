"""The plan of a pass: each layer with weights, and what it will have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from qframe.layers.attachment import float_class_of
from qframe.layers.slots import Slot, SlotsOf, filled_slots, slots_of
from qframe.layers.tree import Site
from qframe.passes.differences import counts_of, named, replaced_by
from qframe.passes.report import Report, Row


@attrs.frozen
class Entry:
    """A layer with weights, and the objects that it gets or the reason for none."""

    site: Site
    words: Mapping[str, Any] = attrs.field(factory=dict)
    reason: str = ""


@attrs.frozen
class Plan:
    """The entries of a model, in call order."""

    model: Any
    entries: tuple[Entry, ...]

    def slots_of(self) -> SlotsOf:
        """The filled slots that a layer will have, as a function of the layer."""
        planned = {id(e.site.layer): _slots(e) for e in self.entries if e.words}

        def slots(layer: Any) -> list[Slot]:
            return planned[id(layer)] if id(layer) in planned else filled_slots(layer)

        return slots

    def report(self, title: str, notes: tuple[str, ...] = ()) -> Report:
        """The entries as a table with a title, and notes on the model."""
        counted: set[int] = set()
        planned = self.slots_of()
        rows = [self._row(entry, planned, counted) for entry in self.entries]
        return Report(title, tuple(rows), notes)

    def _row(self, entry: Entry, planned: SlotsOf, counted: set[int]) -> Row:
        layer, reason = entry.site.layer, entry.reason
        if not entry.words and filled_slots(layer):
            reason += "; it keeps the quantizers that it has"
        numbers, in_float = counts_of(layer, planned(layer), counted)
        return Row(
            entry.site.path,
            float_class_of(layer).__name__,
            {key: named(value) for key, value in entry.words.items()},
            reason,
            {k: named(v) for k, v in replaced_by(layer, entry.words).items()},
            numbers,
            in_float,
        )


def _slots(entry: Entry) -> list[Slot]:
    """The filled slots of a layer after a plan."""
    words = entry.words
    # As `attach`, which keeps one that is the same, with its state.
    return [
        slot
        if repr(slot.quantizer) == repr(words[slot.key])
        else attrs.evolve(slot, quantizer=words[slot.key])
        for slot in slots_of(entry.site.layer)
        if slot.key in words
    ]
