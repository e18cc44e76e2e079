"""The table of losses: layers by bits."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import attrs

from qframe.errors import ArgumentError, DataError, did_you_mean
from qframe.passes.bit_widths import charts
from qframe.registry.identifier import Identifier
from qframe.tables import Table, Tabular
from qframe.tables.markup import Element, to_html

Shapes = Mapping[str, tuple[int, ...]]


@attrs.frozen
class LayerSensitivity:
    """The losses of a layer by its bits, or the reason why it has none.

    Args:
        path: the path of the layer.
        kind: the name of its class.
        weights: the shapes of its quantizable weights by attribute, without biases.
        losses: the loss of the model with this layer alone in so many bits.
        settings: the settings of `qframe.quantize` by bits, such as ``kernel_quantizer``.
        tied: the paths of other layers with the same weights, which share the bits.
        reason: why it has no losses.
    """

    path: str
    kind: str
    weights: Shapes = attrs.field(factory=dict)
    losses: Mapping[int, float] = attrs.field(factory=dict)
    settings: Mapping[int, Mapping[str, str]] = attrs.field(factory=dict)
    tied: tuple[str, ...] = ()
    reason: str = ""

    @property
    def numbers(self) -> int:
        """How many numbers the weights hold."""
        return sum(math.prod(shape) for shape in self.weights.values())

    def to_dict(self) -> dict[str, Any]:
        """Return the row as JSON types; an infinite loss is None."""
        return {
            "path": self.path,
            "kind": self.kind,
            "weights": {name: list(shape) for name, shape in self.weights.items()},
            "losses": {
                str(bits): loss if math.isfinite(loss) else None
                for bits, loss in self.losses.items()
            },
            "settings": {str(bits): dict(each) for bits, each in self.settings.items()},
            "tied": list(self.tied),
            "reason": self.reason,
        }

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> LayerSensitivity:
        """The inverse of `to_dict`."""
        return cls(
            str(row["path"]),
            str(row["kind"]),
            {str(name): tuple(map(int, s)) for name, s in row["weights"].items()},
            {
                int(bits): math.inf if loss is None else float(loss)
                for bits, loss in row["losses"].items()
            },
            {
                int(bits): {str(key): str(value) for key, value in each.items()}
                for bits, each in row["settings"].items()
            },
            tuple(map(str, row["tied"])),
            str(row["reason"]),
        )


@attrs.frozen
class Sensitivity(Tabular):
    """What `qframe.sensitivity` measures: a loss for each layer and each number of bits.

    Prints as a table; a notebook shows bars below it. `to_dict` and `from_dict` store it as
    JSON.

    Args:
        model: the name of the model.
        metric: the identifier of the metric.
        bits: the bits that were measured, ascending.
        rows: the layers in call order.
        examples: how many examples were used.
        decibels: whether losses are shown as ratios of signal to noise.
        notes: what the metric assumed, and what to know about the numbers.
    """

    model: str
    metric: str
    bits: tuple[int, ...]
    rows: tuple[LayerSensitivity, ...]
    examples: int
    decibels: bool = False
    notes: tuple[str, ...] = ()

    @property
    def measured(self) -> tuple[LayerSensitivity, ...]:
        """The layers with losses."""
        return tuple(row for row in self.rows if row.losses)

    @property
    def skipped(self) -> tuple[LayerSensitivity, ...]:
        """The layers without losses, each with its reason."""
        return tuple(row for row in self.rows if not row.losses)

    def __getitem__(self, path: str) -> LayerSensitivity:
        """The row of a layer; raises `ArgumentError` for another path."""
        for row in self.rows:
            if path == row.path or path in row.tied:
                return row
        paths = [row.path for row in self.rows]
        raise ArgumentError(
            f"the table has no layer {path!r}.{did_you_mean(path, paths)} It has: "
            f"{', '.join(paths)}."
        )

    @property
    def metric_name(self) -> str:
        """The name of the metric, without its arguments."""
        return Identifier.parse(self.metric).name if ":" in self.metric else self.metric

    def shown(self, loss: float) -> str:
        """A loss as the table shows it."""
        if not math.isfinite(loss):
            return "not finite"
        if not self.decibels:
            return f"{loss:.3g}"
        return f"{-10 * math.log10(loss):.1f} dB" if loss > 0 else "no noise"

    def to_dict(self) -> dict[str, Any]:
        """Return the table as JSON types."""
        return {
            "model": self.model,
            "metric": self.metric,
            "bits": list(self.bits),
            "examples": self.examples,
            "decibels": self.decibels,
            "notes": list(self.notes),
            "rows": [row.to_dict() for row in self.rows],
        }

    @classmethod
    def from_dict(cls, table: Any) -> Sensitivity:
        """The inverse of `to_dict`.

        Raises:
            DataError: it is something else.
        """
        try:
            return cls(
                str(table["model"]),
                str(table["metric"]),
                tuple(map(int, table["bits"])),
                tuple(map(LayerSensitivity.from_dict, table["rows"])),
                int(table["examples"]),
                bool(table["decibels"]),
                tuple(map(str, table["notes"])),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(
                "this is not a table of qframe.sensitivity: "
                f"{type(error).__name__}: {error}. Write one with "
                "`qframe sensitivity MODEL --data FILE.npz -o table.json`."
            ) from error

    def tables(self) -> list[Table]:
        """Return one table, with a row for each layer."""
        header = ["Layer", "Class", "Numbers", *(f"{b} bits" for b in self.bits)]
        rows = []
        for row in self.rows:
            # A table that a user edits may lack some.
            cells = [
                self.shown(row.losses[b]) if b in row.losses else "-" for b in self.bits
            ]
            rows.append([row.path, row.kind, str(row.numbers), *cells])
        which = f"{self.metric_name} of {self.examples} examples"
        title = f"{self.model}: {which} by layer and bits"
        skipped = [f"{row.path} is skipped: {row.reason}." for row in self.skipped]
        return [Table(title, header, rows, notes=(*self.notes, *skipped))]

    def figures(self) -> list[Element]:
        """Return a figure for each layer with losses: bars on one logarithmic scale."""
        scale = charts.decades(
            loss for row in self.measured for loss in row.losses.values()
        )
        return [charts.bars(row.path, row.losses, scale) for row in self.measured]

    def _repr_html_(self) -> str:
        return super()._repr_html_() + to_html(charts.side_by_side(self.figures()))
