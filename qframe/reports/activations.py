"""The effect of quantization on the outputs of layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import attrs

from qframe import observation
from qframe.layers.attachment import float_class_of
from qframe.layers.float_scope import idle, quantized_layers
from qframe.reports.markup import element
from qframe.reports.noise import Noise
from qframe.reports.page import Section, sortable
from qframe.reports.runs import side_by_side
from qframe.tables import Table

_SLOTS = ("input", "output")


@attrs.frozen
class ActivationReport:
    """What a layer returns, in the float twin and in the quantized model.

    Args:
        path: of the layer.
        kind: the name of its class.
        noise: what the twin returns, and what quantization adds to it.
        float_range: the smallest and the largest number in the twin.
        range: the same in the quantized model.
        saturation: by slot, ``"input"`` or ``"output"``, the part of the numbers that the
            quantizer in it puts at an end of its grid.
    """

    path: str
    kind: str
    noise: Noise
    float_range: tuple[float, float]
    range: tuple[float, float]
    saturation: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """The record as JSON types."""
        return {
            "path": self.path,
            "kind": self.kind,
            **self.noise.to_dict(),
            "float_range": list(self.float_range),
            "range": list(self.range),
            "saturation": dict(self.saturation),
        }


def activations_of(
    model: Any, data: Any, *, batch_size: int | None, verbose: Any
) -> tuple[ActivationReport, ...]:
    """Of each layer that runs over data, the worst first."""
    layers = quantized_layers(model)
    observable = observation.observable_sites(model)

    def twin(call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        with idle(layers):
            return call(*args, **kwargs)

    pairs = [(site.path, [site.layer]) for site in observable]
    seen = side_by_side(
        model, twin, pairs, data, batch_size=batch_size, verbose=verbose, purpose="report"
    )
    rows = [
        ActivationReport(
            site.path,
            float_class_of(site.layer).__name__,
            outputs.noise,
            outputs.first,
            outputs.second,
            {
                slot: part
                for (path, slot), part in seen.saturation.items()
                if path == site.path
            },
        )
        for site in observable
        if (outputs := seen.layers.get(site.path)) is not None
    ]
    return tuple(sorted(rows, key=lambda row: row.noise.rank))


def table(layers: Sequence[ActivationReport]) -> Table:
    """One row a layer."""
    header = ["Layer", "Class", *Noise.COLUMNS, "Float\nfrom", "Float\nto"]
    header += ["Quantized\nfrom", "Quantized\nto"]
    header += [f"{slot.capitalize()}\nsaturated (%)" for slot in _SLOTS]
    rows = [
        [
            layer.path,
            layer.kind,
            *layer.noise.cells(),
            *(f"{end:.4g}" for end in (*layer.float_range, *layer.range)),
            *(
                f"{100 * layer.saturation[slot]:.2f}" if slot in layer.saturation else "-"
                for slot in _SLOTS
            ),
        ]
        for layer in layers
    ]
    return Table("activations", header, rows)


def section(layers: Sequence[ActivationReport] | None) -> Section:
    """The table of the layers, the worst first; None for a report without data."""
    if layers is None:
        command = "qframe report MODEL.keras --data FILE.npz -o FILE.html"
        text = "Ranges, and the noise of each layer, need data: "
        return Section("Activations", [element("p", text, element("code", command), ".")])
    return Section(
        "Activations",
        [
            element(
                "p",
                "What each layer returns, against its float twin: the same model on the "
                "same data with its quantizers off. The worst first.",
            ),
            sortable(table(layers), sorted_by="SQNR\n(dB)"),
        ],
    )
