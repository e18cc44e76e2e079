"""The effect of quantization on each weight of a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
import numpy as np
from keras import ops
from numpy.typing import NDArray

from qframe.layers.slots import Slot, weight_slots
from qframe.layers.tree import iter_slots
from qframe.models.precision import quantizer_bits
from qframe.registry.configurable import described, without_defaults
from qframe.reports.noise import Noise
from qframe.reports.page import Section, paragraph_with_key, sortable
from qframe.reports.saturation import at_the_ends
from qframe.tables import Table
from qframe.tables.markup import Element, as_picture, element

_BINS = 48
# The size of a histogram, and of the line below it.
_WIDTH, _HEIGHT, _FOOT = 300.0, 96.0, 16.0


@attrs.frozen(eq=False)
class Histogram:
    """The histograms of numbers before and after quantization.

    Args:
        edges: the edges of the bins, ascending.
        before: the count of each bin before quantization.
        after: the count of each bin after quantization.
    """

    edges: NDArray[np.float64]
    before: NDArray[np.int64]
    after: NDArray[np.int64]

    @classmethod
    def of(cls, before: NDArray[Any], after: NDArray[Any]) -> Histogram:
        """Count the finite numbers of two arrays in the same bins."""
        numbers = np.concatenate([before.ravel(), after.ravel()]).astype(np.float64)
        numbers = numbers[np.isfinite(numbers)]
        ends = (numbers.min(), numbers.max()) if numbers.size else (0.0, 0.0)
        edges = np.histogram_bin_edges(numbers, _BINS, ends)
        return cls(edges, *(np.histogram(x, edges)[0] for x in (before, after)))


@attrs.frozen(eq=False)
class WeightReport:
    """The effect of quantization on a weight.

    Args:
        path: the path of the layer and the attribute, such as ``"dense/kernel"``.
        quantizer: its quantizer.
        bits: the bits that the quantizer declares; None where it declares none.
        count: the number of its elements.
        noise: the latent numbers, and the error of the quantized ones.
        saturation: the part of the numbers at an end of the grid.
        histogram: the latent and the quantized numbers.
    """

    path: str
    quantizer: str
    bits: int | None
    count: int
    noise: Noise
    saturation: float
    histogram: Histogram

    def to_dict(self) -> dict[str, Any]:
        """Return the record as JSON types."""
        return {
            "path": self.path,
            "quantizer": self.quantizer,
            "bits": self.bits,
            "count": self.count,
            **self.noise.to_dict(),
            "saturation": self.saturation,
        }


def weights_of(model: Any) -> tuple[WeightReport, ...]:
    """Report the quantized weights of a built model, in call order."""
    return tuple(map(_report, iter_slots(model, weight_slots)))


def _report(slot: Slot) -> WeightReport:
    before, after, quantizer = slot.latent_value(), slot.quantized_value(), slot.quantizer
    ends = at_the_ends(quantizer, before, after, slot.channel_axis)
    arrays = [_array(x) for x in (before, after)]
    bits = quantizer_bits(quantizer)
    return WeightReport(
        slot.variable_path,
        described(quantizer),
        bits if isinstance(bits, int) else None,
        arrays[0].size,
        Noise.between(*arrays),
        float(ops.convert_to_numpy(ends).mean()),
        Histogram.of(*arrays),
    )


def _array(tensor: Any) -> NDArray[Any]:
    # NumPy has no bfloat16.
    return np.asarray(ops.convert_to_numpy(ops.cast(tensor, "float32")))


def table(weights: Sequence[WeightReport]) -> Table:
    """Return a table with one row per weight."""
    header = ["Weight", "Quantizer", "Bits", "Numbers", *Noise.COLUMNS, "Saturated\n(%)"]
    rows = [
        [
            weight.path,
            without_defaults(weight.quantizer),
            "?" if weight.bits is None else str(weight.bits),
            str(weight.count),
            *weight.noise.cells(),
            f"{100 * weight.saturation:.2f}",
        ]
        for weight in weights
    ]
    return Table("weights", header, rows)


def section(weights: Sequence[WeightReport]) -> Section:
    """Return the section with the table of the weights and their histograms."""
    text = (
        "The effect of quantization on each weight. SQNR is the ratio of signal to "
        "quantization noise in decibels. The cosine is that between the latent and the "
        "quantized weights, which no scale changes. Saturated is the part of the numbers "
        "at the ends of the grid."
    )
    elements = [element("p", "No weight of this model is quantized.")]
    if weights:
        heading = "The distribution of the numbers, as the roots of their counts:"
        key = [("before", "latent"), ("after", "quantized")]
        charts = element("div", *map(_histogram, weights), class_="charts")
        elements = [sortable(table(weights)), paragraph_with_key(heading, key), charts]
    return Section("Weights", [element("p", text), *elements])


def _histogram(weight: WeightReport) -> Element:
    picture = histogram_picture(weight.histogram, weight.path)
    return element("figure", picture, element("figcaption", weight.path))


def histogram_picture(histogram: Histogram, label: str) -> Element:
    """Draw an area for the latent values and bars for the quantized ones.

    Heights are the roots of counts, so that rare values are visible.
    """
    edges, bins = histogram.edges, len(histogram.before)
    step = _WIDTH / bins
    before, after = _heights(histogram.before), _heights(histogram.after)
    outline = [f"M0 {_HEIGHT}"]
    for index, height in enumerate(before):
        outline.append(f"V{_HEIGHT - height:.1f}H{(index + 1) * step:.2f}")
    bars = [
        element(
            "rect",
            x=f"{(index + 0.25) * step:.2f}",
            y=f"{_HEIGHT - height:.1f}",
            width=f"{step / 2:.2f}",
            height=f"{height:.1f}",
        )
        for index, height in enumerate(after)
        if height
    ]
    ends = [
        element("text", f"{edge:.3g}", x=x, y=_HEIGHT + 12, text_anchor=anchor)
        for edge, x, anchor in ((edges[0], 0, "start"), (edges[-1], _WIDTH, "end"))
    ]
    return as_picture(
        _WIDTH,
        _HEIGHT + _FOOT,
        f"histogram of {label} before and after quantization",
        element("path", d="".join([*outline, f"V{_HEIGHT}Z"]), class_="before"),
        element("g", *bars, class_="after"),
        element("path", d=f"M0 {_HEIGHT}H{_WIDTH}", class_="axis"),
        *ends,
    )


def _heights(counts: NDArray[np.int64]) -> Any:
    return (_HEIGHT - 4) * np.sqrt(counts / max(int(counts.max()), 1))
