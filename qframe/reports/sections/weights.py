"""The error of each quantized weight."""

from __future__ import annotations

from collections.abc import Sequence

from qframe.reports.blocks import Section, paragraph_with_key, sortable
from qframe.reports.charts import histogram_picture
from qframe.reports.markup import Element, element
from qframe.reports.noise import Noise
from qframe.reports.weights import WeightReport
from qframe.tables import Table


def table(weights: Sequence[WeightReport]) -> Table:
    """One row a weight."""
    header = ["Weight", "Quantizer", "Bits", "Numbers", *Noise.COLUMNS, "Saturated\n(%)"]
    rows = [
        [
            weight.path,
            weight.quantizer,
            "?" if weight.bits is None else str(weight.bits),
            str(weight.count),
            *weight.noise.cells(),
            f"{100 * weight.saturation:.2f}",
        ]
        for weight in weights
    ]
    return Table("weights", header, rows)


def section(weights: Sequence[WeightReport]) -> Section:
    """The table of the weights, and a histogram of each."""
    elements = [
        element(
            "p",
            "What quantization does to each weight. SQNR is the ratio of signal to "
            "quantization noise in decibels; the cosine is that between the latent and the "
            "quantized weights, which no scale changes; saturated is the share of numbers "
            "at the ends of the grid.",
        )
    ]
    if weights:
        elements += [
            sortable(table(weights)),
            paragraph_with_key(
                "Which numbers are how frequent, by the roots of their counts:",
                [("before", "latent"), ("after", "quantized")],
            ),
            element("div", *map(_histogram, weights), class_="charts"),
        ]
    else:
        elements.append(element("p", "No weight of this model is quantized."))
    return Section("Weights", elements)


def _histogram(weight: WeightReport) -> Element:
    picture = histogram_picture(weight.histogram, weight.path)
    return element("figure", picture, element("figcaption", weight.path))
