"""The effect of quantization on the outputs of layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import attrs

from qframe import observation
from qframe.layers.attachment import float_class_of
from qframe.layers.float_scope import idle, quantized_layers
from qframe.layers.slots import ACTIVATIONS
from qframe.reports.noise import Noise
from qframe.reports.page import Section, sortable
from qframe.reports.runs import side_by_side
from qframe.tables import Table
from qframe.tables.markup import element


@attrs.frozen
class ActivationReport:
    """The outputs of a layer in the float twin and in the quantized model.

    Args:
        path: the path of the layer.
        kind: the name of its class.
        noise: the outputs of the twin, and the noise that quantization adds.
        float_range: the smallest and the largest number in the twin.
        range: the same in the quantized model.
        saturation: by slot, ``"input"`` or ``"output"``, the part of the numbers that its
            quantizer maps to an end of its grid.
    """

    path: str
    kind: str
    noise: Noise
    float_range: tuple[float, float]
    range: tuple[float, float]
    saturation: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Return the record as JSON types."""
        ranges = {"float_range": list(self.float_range), "range": list(self.range)}
        head = {"path": self.path, "kind": self.kind, **self.noise.to_dict()}
        return {**head, **ranges, "saturation": dict(self.saturation)}


def activations_of(model: Any, data: Any, **options: Any) -> tuple[ActivationReport, ...]:
    """Run a model over data and report its layers, the worst first."""
    layers = quantized_layers(model)
    observable = observation.observable_sites(model)

    def twin(call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        with idle(layers):
            return call(*args, **kwargs)

    pairs = [(site.path, [site.layer]) for site in observable]
    results = side_by_side(model, twin, pairs, data, purpose="report", **options)
    rows = [
        ActivationReport(
            site.path,
            float_class_of(site.layer).__name__,
            outputs.noise,
            outputs.first,
            outputs.second,
            {s: x for (path, s), x in results.saturation.items() if path == site.path},
        )
        for site in observable
        if (outputs := results.layers.get(site.path)) is not None
    ]
    return tuple(sorted(rows, key=lambda row: row.noise.rank))


def table(layers: Sequence[ActivationReport]) -> Table:
    """Return a table with one row per layer."""
    header = ["Layer", "Class", *Noise.COLUMNS, "Float\nfrom", "Float\nto"]
    header += ["Quantized\nfrom", "Quantized\nto"]
    header += [f"{slot.capitalize()}\nsaturated (%)" for slot in ACTIVATIONS]
    rows = [
        [
            layer.path,
            layer.kind,
            *layer.noise.cells(),
            *(f"{end:.4g}" for end in (*layer.float_range, *layer.range)),
            *(
                f"{100 * layer.saturation[slot]:.2f}" if slot in layer.saturation else "-"
                for slot in ACTIVATIONS
            ),
        ]
        for layer in layers
    ]
    return Table("activations", header, rows)


def section(layers: Sequence[ActivationReport] | None) -> Section:
    """Return the section of the activations; `layers` is None without data."""
    if layers is None:
        command = "qframe report MODEL.keras --data FILE.npz -o FILE.html"
        text = "Ranges, and the noise of each layer, need data: "
        return Section("Activations", [element("p", text, element("code", command), ".")])
    text = (
        "The outputs of each layer, compared with its float twin: the same model on the "
        "same data with its quantizers off. The worst is first."
    )
    rows = sortable(table(layers), sorted_by="SQNR\n(dB)")
    return Section("Activations", [element("p", text), rows])
