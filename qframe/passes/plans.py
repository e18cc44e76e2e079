"""The plan of a pass: the settings of each layer with weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from qframe.layers.attachment import float_class_of
from qframe.layers.slots import Slot, SlotsOf, filled_slots, possible_slots
from qframe.layers.tree import Site
from qframe.passes.differences import counts_of, named, replaced_by
from qframe.passes.report import Report, Row


@attrs.frozen
class LayerPlan:
    """A layer with weights, and its new settings or the reason for none."""

    site: Site
    settings: Mapping[str, Any] = attrs.field(factory=dict)
    reason: str = ""


@attrs.frozen
class ModelPlan:
    """The plans of the layers of a model, in call order."""

    model: Any
    layers: tuple[LayerPlan, ...]
    notes: tuple[str, ...] = ()

    def slots_of(self) -> SlotsOf:
        """Return a function from a layer to its filled slots after the plan."""
        planned = {id(p.site.layer): _slots(p) for p in self.layers if p.settings}

        def slots(layer: Any) -> list[Slot]:
            return planned[id(layer)] if id(layer) in planned else filled_slots(layer)

        return slots

    def report(self, title: str, notes: tuple[str, ...] = ()) -> Report:
        """Return a report of the plans, with more notes on the model."""
        counted: set[int] = set()
        planned = self.slots_of()
        rows = [_row(plan, planned, counted) for plan in self.layers]
        return Report(title, tuple(rows), (*self.notes, *notes))


def _row(plan: LayerPlan, planned: SlotsOf, counted: set[int]) -> Row:
    layer, reason = plan.site.layer, plan.reason
    if not plan.settings and filled_slots(layer):
        reason += "; it keeps the quantizers that it has"
    numbers, in_float = counts_of(layer, planned(layer), counted)
    return Row(
        plan.site.path,
        float_class_of(layer).__name__,
        {key: named(value) for key, value in plan.settings.items()},
        reason,
        {k: named(v) for k, v in replaced_by(layer, plan.settings).items()},
        numbers,
        in_float,
    )


def _slots(plan: LayerPlan) -> list[Slot]:
    """Return the filled slots of a layer after its plan."""
    settings = plan.settings
    # `attach` keeps a quantizer that is the same, with its state.
    return [
        slot
        if repr(slot.quantizer) == repr(settings[slot.key])
        else attrs.evolve(slot, quantizer=settings[slot.key])
        for slot in possible_slots(plan.site.layer)
        if slot.key in settings
    ]
