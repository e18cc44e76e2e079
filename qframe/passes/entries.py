"""What a pass is about to do: each layer with weights, and what it is given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from qframe.layers.attachment import float_class_of
from qframe.layers.tree import Site
from qframe.models.held import quantizers_of
from qframe.passes.differences import counts_of, named, replaced_by
from qframe.passes.report import Report, Row


@attrs.frozen
class Entry:
    """A layer with weights, and the objects that it is given or the reason for none."""

    site: Site
    words: Mapping[str, Any] = attrs.field(factory=dict)
    reason: str = ""


@attrs.frozen
class Plan:
    """The entries of a model, in call order."""

    model: Any
    entries: tuple[Entry, ...]

    def held(self, layer: Any) -> Mapping[str, Any]:
        """The quantizers by slot that a layer will have."""
        now = quantizers_of(layer)
        words = next((e.words for e in self.entries if e.site.layer is layer), None)
        if not words:
            return now
        made = {
            key.removesuffix("_quantizer"): value
            for key, value in words.items()
            if key.endswith("_quantizer")
        }
        # As `attach`, which keeps one that is the same, with its state.
        return {s: now[s] if repr(now.get(s)) == repr(q) else q for s, q in made.items()}

    def report(self, title: str, notes: tuple[str, ...] = ()) -> Report:
        """The entries as a table with a title, and notes on the model."""
        counted: set[int] = set()
        rows = [self._row(entry, counted) for entry in self.entries]
        return Report(title, tuple(rows), notes)

    def _row(self, entry: Entry, counted: set[int]) -> Row:
        layer, reason = entry.site.layer, entry.reason
        if not entry.words and quantizers_of(layer):
            reason += "; it keeps the quantizers that it has"
        numbers, in_float = counts_of(layer, self.held(layer), counted)
        return Row(
            entry.site.path,
            float_class_of(layer).__name__,
            {key: named(value) for key, value in entry.words.items()},
            reason,
            {k: named(v) for k, v in replaced_by(layer, entry.words).items()},
            numbers,
            in_float,
        )
