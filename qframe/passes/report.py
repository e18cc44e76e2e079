"""What a pass did, or would do, layer by layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import attrs

from qframe.models import tables
from qframe.models.grids import Grid


@attrs.frozen
class Row:
    """One layer: what it was given (and what of that is lost), or why nothing."""

    path: str
    kind: str
    words: Mapping[str, str] = attrs.field(factory=dict)
    reason: str = ""


@attrs.frozen
class Report:
    """The rows of all layers that have weights, in call order."""

    # How its table is worded.
    column: ClassVar[str] = "Quantizers"
    done: ClassVar[str] = "layers with weights quantized"

    title: str
    rows: tuple[Row, ...]

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

    def _grid(self) -> Grid:
        rows = []
        for row in self.rows:
            lines = [f"{key}={value}" for key, value in row.words.items()]
            if row.reason:
                lines.append(row.reason if row.words else f"skipped: {row.reason}")
            rows.append([row.path, row.kind, "\n".join(lines)])
        count = f"{len(self.quantized)} of {len(self.rows)}"
        footer = ["Total", "", f"{count} {self.done}"]
        return Grid(self.title, ["Layer", "Class", self.column], rows, footer)

    def __str__(self) -> str:
        return tables.to_text(self._grid())

    def __rich__(self) -> Any:
        return tables.RichTables([self._grid()])

    def _repr_html_(self) -> str:
        return tables.to_html(self._grid())
