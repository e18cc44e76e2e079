"""What a pass is about to do: each layer with weights, and what it is given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from qframe.layers.attachment import float_class_of
from qframe.layers.tree import Site
from qframe.passes.report import Report, Row
from qframe.quantizers import Quantizer


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

    def report(self, title: str) -> Report:
        """The entries as a table with a title."""
        rows = [
            Row(
                entry.site.path,
                float_class_of(entry.site.layer).__name__,
                {key: repr(value) for key, value in entry.words.items()},
                entry.reason,
            )
            for entry in self.entries
        ]
        return Report(title, tuple(rows))


def is_stateless(quantizer: Any) -> bool:
    """Whether layers can share a quantizer: it has no variables and draws no numbers."""
    return (
        isinstance(quantizer, Quantizer)
        and type(quantizer).build is Quantizer.build
        and not quantizer.traits.stochastic
    )
