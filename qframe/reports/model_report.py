"""The report of a quantized model, as one page."""

from __future__ import annotations

import importlib.metadata
from typing import Any

import attrs
import keras

from qframe.errors import ArgumentError, shown
from qframe.models import ModelProfile, profile
from qframe.observation.shapes import check_data, check_model
from qframe.passes import Front, Sensitivity
from qframe.paths import AnyPath, OutputPath
from qframe.registry.discovery import FIRST_PARTY
from qframe.reports import activations, bits, graph, weights
from qframe.reports.activations import ActivationReport, activations_of
from qframe.reports.page import Section, definitions, page_of, sortable
from qframe.reports.weights import WeightReport, weights_of
from qframe.tables import Table, Tabular
from qframe.tables.markup import Element

# The functions that return what a page can show beside the model.
_MAKERS = {Sensitivity: "sensitivity(model, data)", Front: "allocate(model, table)"}


@attrs.frozen(eq=False)
class ModelReport(Tabular):
    """The cost of a quantized model, and the error of its quantizers.

    Args:
        profile: the cost of the model.
        weights: the quantized weights in call order.
        activations: the layers with their float twins, the worst first; None without data.
        picture: the graph of the model.
        sensitivity: the losses by layer and bits; None without them.
        front: the best choices of bits; None without them.
    """

    profile: ModelProfile
    weights: tuple[WeightReport, ...]
    activations: tuple[ActivationReport, ...] | None
    picture: Element = attrs.field(repr=False)
    sensitivity: Sensitivity | None = None
    front: Front | None = None

    @property
    def made_with(self) -> str:
        """The versions that made the figures."""
        version = importlib.metadata.version(FIRST_PARTY)
        return (
            f"Made by qframe {version} with Keras {keras.__version__} on "
            f"{keras.backend.backend()}."
        )

    @property
    def html(self) -> str:
        """The page, one file that loads no others."""
        layers, totals = self.profile.tables()
        sections = [
            Section("", [definitions(totals.rows)]),
            graph.section(self.picture),
            Section("Layers", [sortable(layers)]),
            weights.section(self.weights),
            activations.section(self.activations),
        ]
        if self.sensitivity is not None:
            sections.append(bits.section_of_losses(self.sensitivity))
        if self.front is not None:
            sections.append(bits.section_of_front(self.front))
        return page_of(self.profile.name, self.made_with, sections)

    def save(self, path: AnyPath, *, force: bool = True) -> None:
        """Write the page to a ``.html`` file, completely or not at all.

        Args:
            path: the path of the file.
            force: replace an existing file. Default True.

        Raises:
            OutputError: the file cannot be written.
        """
        html = self.html
        target = OutputPath.check(path, ".html", force=force)
        target.write(lambda draft: draft.write_text(html, "utf-8"))

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as JSON types, with None for unknown ones."""
        rows = self.activations
        return {
            "profile": self.profile.to_dict(),
            "weights": [weight.to_dict() for weight in self.weights],
            "activations": None if rows is None else [row.to_dict() for row in rows],
            "sensitivity": self.sensitivity and self.sensitivity.to_dict(),
            "front": self.front and self.front.to_dict(),
        }

    def tables(self) -> list[Table]:
        """Return the tables of the layers, the model, the weights and the activations."""
        tables = [*self.profile.tables(), weights.table(self.weights)]
        if self.activations is not None:
            tables.append(activations.table(self.activations))
        for result in (self.sensitivity, self.front):
            tables += result.tables() if result is not None else []
        return tables


def report_of(
    model: Any, data: Any = None, sensitivity: Any = None, front: Any = None, **options: Any
) -> ModelReport:
    """Report a built model, with data or without."""
    check_model(model, "report")
    for value, kind in ((sensitivity, Sensitivity), (front, Front)):
        if not isinstance(value, kind | None):
            raise ArgumentError(
                f"a report takes {kind.__name__.lower()}= with what "
                f"qframe.{_MAKERS[kind]} returns, found {shown(value)}."
            )
    costs = profile(model)
    rows = None
    if data is not None:
        check_data(model, data)
        rows = activations_of(model, data, **options)
    picture = graph.picture_of(model, costs)
    return ModelReport(costs, weights_of(model), rows, picture, sensitivity, front)
