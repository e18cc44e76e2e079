"""What a pass did, or would do, layer by layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import attrs

from qframe.tables import Table, Tabular


@attrs.frozen
class Row:
    """One layer: what it was given (and what of that is lost), or why nothing.

    Args:
        path: of the layer.
        kind: the name of its class.
        words: what it was given, by word.
        reason: why nothing, or what of it is lost.
        replaced: what it had before under a word: quantizers and constraints, those of
            the user among them, which `qframe.strip` gives back.
        numbers: how many numbers its own weights hold; 0 where the pass does not count.
        in_float: how many of them stay in float.
    """

    path: str
    kind: str
    words: Mapping[str, str] = attrs.field(factory=dict)
    reason: str = ""
    replaced: Mapping[str, str] = attrs.field(factory=dict)
    numbers: int = 0
    in_float: int = 0

    def lines(self) -> list[str]:
        """What was given in place of what, and the reason."""
        lines = []
        for key, value in self.words.items():
            lines.append(f"{key}={value}")
            if key in self.replaced:
                lines.append(f"in place of {self.replaced[key]}")
        gone = (key for key in self.replaced if key not in self.words)
        lines += [f"taken away: {key}={self.replaced[key]}" for key in gone]
        if self.reason:
            lines.append(self.reason if self.words else f"skipped: {self.reason}")
        return lines


@attrs.frozen
class Report(Tabular):
    """The rows of all layers that have weights, in call order, and notes on the model."""

    # How its table is worded.
    column: ClassVar[str] = "Quantizers"
    done: ClassVar[str] = "layers with weights quantized"

    title: str
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()

    @property
    def quantized(self) -> tuple[Row, ...]:
        """The layers that have slots filled."""
        return tuple(row for row in self.rows if row.words)

    @property
    def skipped(self) -> tuple[Row, ...]:
        """The layers left as they are, each with its reason."""
        return tuple(row for row in self.rows if not row.words)

    def to_dict(self) -> dict[str, Any]:
        """The report in plain types."""
        return attrs.asdict(self)

    def tables(self) -> list[Table]:
        """One table, with a row for each layer."""
        header = ["Layer", "Class", self.column]
        rows = [[row.path, row.kind, "\n".join(row.lines())] for row in self.rows]
        footer = ["Total", "", f"{len(self.quantized)} of {len(self.rows)} {self.done}"]
        if any(row.numbers for row in self.rows):
            header.insert(2, "Numbers\nin float")
            for row, cells in zip(self.rows, rows, strict=True):
                cells.insert(2, f"{row.in_float} of {row.numbers}")
            sums = [sum(getattr(r, n) for r in self.rows) for n in ("in_float", "numbers")]
            footer.insert(2, f"{sums[0]} of {sums[1]}")
        return [Table(self.title, header, rows, footer, self.notes)]
