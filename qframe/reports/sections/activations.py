"""The error of the outputs of each layer."""

from __future__ import annotations

from collections.abc import Sequence

from qframe.reports.activations import ActivationReport
from qframe.reports.blocks import Section, sortable
from qframe.reports.markup import element
from qframe.reports.noise import Noise
from qframe.tables import Table

_SLOTS = ("input", "output")


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
