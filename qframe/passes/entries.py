"""What a pass is about to do: each layer with weights, and what it is given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from qframe.layers.attachment import float_class_of
from qframe.layers.tree import Site
from qframe.models.held import Held, quantizers_of
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

    def holding(self) -> Held:
        """Of each layer, the quantizers by slot that it will have."""
        words_of = {id(entry.site.layer): entry.words for entry in self.entries}

        def held(layer: Any) -> Mapping[str, Any]:
            now, words = quantizers_of(layer), words_of.get(id(layer))
            if not words:
                return now
            made = {
                key.removesuffix("_quantizer"): value
                for key, value in words.items()
                if key.endswith("_quantizer")
            }
            # As `attach`, which keeps one that is the same, with its state.
            same = {s for s, q in made.items() if repr(now.get(s)) == repr(q)}
            return {s: now[s] if s in same else q for s, q in made.items()}

        return held

    def report(self, title: str, notes: tuple[str, ...] = ()) -> Report:
        """The entries as a table with a title, and notes on the model."""
        counted: set[int] = set()
        held = self.holding()
        rows = [self._row(entry, held, counted) for entry in self.entries]
        return Report(title, tuple(rows), notes)

    def _row(self, entry: Entry, held: Held, counted: set[int]) -> Row:
        layer, reason = entry.site.layer, entry.reason
        if not entry.words and quantizers_of(layer):
            reason += "; it keeps the quantizers that it has"
        numbers, in_float = counts_of(layer, held(layer), counted)
        return Row(
            entry.site.path,
            float_class_of(layer).__name__,
            {key: named(value) for key, value in entry.words.items()},
            reason,
            {k: named(v) for k, v in replaced_by(layer, entry.words).items()},
            numbers,
            in_float,
        )
