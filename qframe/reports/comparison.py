"""Compare two models: their costs, and the first layer that differs."""

from __future__ import annotations

import html
from collections.abc import Callable
from typing import Any

import attrs
import numpy as np

from qframe import keras_internals, observation
from qframe.errors import ArgumentError
from qframe.layers.attachment import float_class_of
from qframe.models import ModelProfile, profile
from qframe.models.model_profile import or_unknown
from qframe.observation.shapes import (
    Shapes,
    check_data,
    check_model,
    input_shapes,
    output_shapes,
)
from qframe.reports.accuracy import accuracy
from qframe.reports.noise import Noise
from qframe.reports.runs import side_by_side
from qframe.tables import Table, Tabular, readable, readable_size

# The largest relative error that rounding makes.
_ROUNDING = 1e-4


@attrs.frozen
class LayerComparison:
    """A layer that both models have, by its path.

    Args:
        path: the path of the layer.
        kind: the name of its class in the first model.
        noise: the outputs in the first model, and the noise that the second adds; None
            where the shapes differ.
        shapes: the shapes of both outputs where they differ, else None.
    """

    path: str
    kind: str
    noise: Noise | None = None
    shapes: tuple[Any, Any] | None = None

    @property
    def differs(self) -> bool:
        """Return whether the outputs differ by more than rounding."""
        error = None if self.noise is None else self.noise.relative_error
        return error is None or error > _ROUNDING

    def to_dict(self) -> dict[str, Any]:
        """Return the record as JSON types."""
        noise = Noise(0, float("nan"), 0) if self.noise is None else self.noise
        shapes = None if self.shapes is None else [list(shape) for shape in self.shapes]
        return {"path": self.path, "kind": self.kind, **noise.to_dict(), "shapes": shapes}


@attrs.frozen(eq=False)
class Comparison(Tabular):
    """The result of `compare`, which prints as two tables.

    Args:
        profiles: the cost of each model.
        layers: the layers of both models, in the order of the first model.
        accuracies: the accuracy of each model; None without labels.
        alone: by model, the paths of the layers that the other one does not have.
    """

    profiles: tuple[ModelProfile, ModelProfile]
    layers: tuple[LayerComparison, ...]
    accuracies: tuple[float, float] | None
    alone: tuple[tuple[str, ...], tuple[str, ...]]

    @property
    def first_divergence(self) -> LayerComparison | None:
        """The first layer that differs by more than rounding; None where none does."""
        return next((layer for layer in self.layers if layer.differs), None)

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as JSON types, with None for unknown ones."""
        part = self.first_divergence
        models = []
        for index, costs in enumerate(self.profiles):
            figures = costs.to_dict()
            del figures["layers"]
            accuracy = None if self.accuracies is None else self.accuracies[index]
            alone = list(self.alone[index])
            models.append({**figures, "accuracy": accuracy, "layers_alone": alone})
        return {
            "models": models,
            "layers": [layer.to_dict() for layer in self.layers],
            "first_divergence": None if part is None else part.path,
        }

    def tables(self) -> list[Table]:
        """Return the tables of the costs and of the layers."""
        return [self._costs(), self._layers()]

    @property
    def conclusion(self) -> str:
        """A sentence about the first divergence."""
        part = self.first_divergence
        alone = sum(map(len, self.alone))
        note = f" {alone} layers are in one of them only." if alone else ""
        if part is None:
            return f"All {len(self.layers)} layers that both have return the same.{note}"
        return f"They part at {part.path!r}, the first layer that returns others.{note}"

    def _costs(self) -> Table:
        pair = self.profiles
        rows = [
            ["Parameters", *(or_unknown(p.parameter_count(), readable) for p in pair)],
            ["Model size", *(or_unknown(p.memory, readable_size) for p in pair)],
            ["MACs", *(or_unknown(p.mac_count(), readable) for p in pair)],
        ]
        for bits in sorted({bits for p in pair for bits in p.mac_precisions}):
            counts = (or_unknown(p.mac_count(bits), readable) for p in pair)
            rows.append([f"{bits}-bit MACs", *counts])
        if self.accuracies is not None:
            rows.insert(0, ["Accuracy", *(f"{100 * x:.2f} %" for x in self.accuracies)])
        heads = (f"{w}\n{c.name}" for w, c in zip(("First", "Second"), pair, strict=True))
        return Table("models", ["", *heads], rows)

    def _layers(self) -> Table:
        rows = []
        for layer in self.layers:
            cells = ["?", "?", "?"] if layer.noise is None else layer.noise.cells()
            note = "" if layer.shapes is None else "{} and {}".format(*layer.shapes)
            rows.append([layer.path, layer.kind, *cells, note])
        header = ["Layer", "Class", *Noise.COLUMNS, "Shapes"]
        return Table("layers", header, rows)

    def __str__(self) -> str:
        return f"{super().__str__()}\n{self.conclusion}"

    def _repr_html_(self) -> str:
        return f"{super()._repr_html_()}\n<p>{html.escape(self.conclusion)}</p>"


def comparison_of(
    first: Any, second: Any, data: Any, labels: Any, **options: Any
) -> Comparison:
    """Compare two built models over data; options are those of `qframe.observation.run`."""
    _check(first, second)
    check_data(second, data)
    one, other = (
        {site.path: site.layer for site in observation.observable_sites(model)}
        for model in (first, second)
    )
    pairs = [(path, [one[path], other[path]]) for path in one if path in other]
    if not pairs:
        raise ArgumentError(
            f"{first.name!r} and {second.name!r} have no layer of the same path: the first "
            f"has {_some(one)}, the second {_some(other)}. Name their layers alike."
        )
    inference = {"training": False} if keras_internals.takes_training(first) else {}

    def run(call: Callable[..., Any], inputs: Any, *args: Any, **kwargs: Any) -> Any:
        return first(inputs, **inference)

    results = side_by_side(
        second, run, pairs, data, labels is not None, purpose="comparison", **options
    )
    layers = []
    for path, (layer, _) in pairs:
        kind = float_class_of(layer).__name__
        if (shapes := results.different_shapes.get(path)) is not None:
            layers.append(LayerComparison(path, kind, shapes=shapes))
        elif path in results.layers:
            layers.append(LayerComparison(path, kind, results.layers[path].noise))
    accuracies = None
    if results.outputs is not None:
        labels = np.asarray(labels)
        before, after = results.outputs
        accuracies = accuracy(before, labels), accuracy(after, labels)
    alone = (
        tuple(path for path in one if path not in other),
        tuple(path for path in other if path not in one),
    )
    return Comparison((profile(first), profile(second)), tuple(layers), accuracies, alone)


def _check(first: Any, second: Any) -> None:
    for model in (first, second):
        check_model(model, "comparison")
    if first is second:
        raise ArgumentError(
            "both models are the same object. Load one of them from its file, or write "
            "qframe.report(model, data), which compares it with its float twin."
        )
    for verb, shapes_of in (("takes", input_shapes), ("returns", output_shapes)):
        one, other = shapes_of(first), shapes_of(second)
        if one is not None and other is not None and not _alike(one, other):
            raise ArgumentError(
                f"{first.name!r} {verb} {_listed(one)} and {second.name!r} {verb} "
                f"{_listed(other)}. Compare models for the same data."
            )


def _alike(one: Shapes, other: Shapes) -> bool:
    return [shape[1:] for shape in one] == [shape[1:] for shape in other]


def _listed(shapes: Shapes) -> str:
    return " and ".join(map(str, shapes))


def _some(layers: dict[str, Any]) -> str:
    names = [repr(path) for path in list(layers)[:3]]
    return ", ".join(names) + (", ..." if len(layers) > 3 else "") or "none"
