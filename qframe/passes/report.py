"""The report of a pass or a plan, layer by layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import attrs

from qframe.registry.configurable import without_defaults
from qframe.tables import Table, Tabular


@attrs.frozen
class Row:
    """The settings of one layer, or the reason why it has none.

    Args:
        path: the path of the layer.
        kind: the name of its class.
        settings: its new settings by name, such as ``kernel_quantizer``.
        reason: why there are none, or which of them are lost.
        replaced: the previous settings that differ, by name: quantizers and constraints.
            `qframe.strip` restores constraints of the user.
        numbers: how many numbers its own weights hold; 0 where the pass does not count.
        in_float: how many of them stay in float.
    """

    path: str
    kind: str
    settings: Mapping[str, str] = attrs.field(factory=dict)
    reason: str = ""
    replaced: Mapping[str, str] = attrs.field(factory=dict)
    numbers: int = 0
    in_float: int = 0

    def lines(self) -> list[str]:
        """Return the settings with those that they replace, and the reason.

        Quantizers and constraints are without arguments that are defaults.
        """
        lines = []
        for key, value in self.settings.items():
            lines.append(f"{key}={without_defaults(value)}")
            if key in self.replaced:
                lines.append(f"in place of {without_defaults(self.replaced[key])}")
        removed = (key for key in self.replaced if key not in self.settings)
        lines += [
            f"removed: {key}={without_defaults(self.replaced[key])}" for key in removed
        ]
        if self.reason:
            lines.append(self.reason if self.settings else f"skipped: {self.reason}")
        return lines


@attrs.frozen
class Report(Tabular):
    """The rows of all layers with weights or settings, in call order, and notes."""

    # Subclasses have other texts in their tables.
    column: ClassVar[str] = "Quantizers"
    done: ClassVar[str] = "layers quantized"

    title: str
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()

    @property
    def quantized(self) -> tuple[Row, ...]:
        """The layers with new settings."""
        return tuple(row for row in self.rows if row.settings)

    @property
    def skipped(self) -> tuple[Row, ...]:
        """The layers that are not changed, each with its reason."""
        return tuple(row for row in self.rows if not row.settings)

    def to_dict(self) -> dict[str, Any]:
        """Return the report in plain types."""
        return attrs.asdict(self)

    def tables(self) -> list[Table]:
        """Return one table, with a row for each layer."""
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
