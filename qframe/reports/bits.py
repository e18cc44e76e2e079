"""The losses of layers in few bits, and the best choices of bits, as pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence

from qframe.passes import Front, LayerSensitivity, Sensitivity
from qframe.reports.markup import Element, as_picture, element
from qframe.reports.page import Section, sortable

# The size of a picture, and of the texts beside its axes.
_WIDTH, _HEIGHT, _LEFT, _FOOT = 300.0, 110.0, 44.0, 16.0


def section_of_losses(table: Sensitivity) -> Section:
    """Return the section with a table of losses, and bars for each layer."""
    text = (
        f"The {table.metric_name} of the outputs with one layer alone in few bits, on "
        f"{table.examples} examples. In the bars each line is ten times the one below."
    )
    losses = [loss for row in table.measured for loss in row.losses.values()]
    scale = _decades(losses)
    charts = [_bars(row, scale) for row in table.measured]
    notes = [element("p", note) for note in table.tables()[0].notes]
    parts = [element("p", text), sortable(table.tables()[0]), *notes]
    return Section("Sensitivity", [*parts, element("div", *charts, class_="charts")])


def section_of_front(front: Front) -> Section:
    """Return the section with the best choices of bits, as a table and a picture."""
    text = f"The least loss by {front.cost}, and the bits of each layer for it."
    chart = element("div", element("figure", front_picture(front)), class_="charts")
    return Section(
        "Bits by layer", [element("p", text), chart, sortable(front.tables()[0])]
    )


def _decades(losses: Sequence[float]) -> tuple[int, int]:
    """The powers of ten around the losses, of which at most eight."""
    positive = [loss for loss in losses if 0 < loss < math.inf] or [1.0]
    top = math.ceil(math.log10(max(positive)) + 1e-9)
    return max(math.floor(math.log10(min(positive))), top - 8), top


def _height(loss: float, scale: tuple[int, int]) -> float:
    """The height of a loss, as a part of a picture."""
    if loss <= 0:
        return 0.0
    low, high = scale
    place = (math.log10(loss) - low) / (high - low) if loss < math.inf else 1.0
    return min(max(place, 0.0), 1.0)


def _bars(row: LayerSensitivity, scale: tuple[int, int]) -> Element:
    step = (_WIDTH - _LEFT) / len(row.losses)
    marks = []
    for index, (bits, loss) in enumerate(row.losses.items()):
        height, left = _height(loss, scale) * _HEIGHT, _LEFT + index * step
        marks.append(
            element(
                "rect",
                element("title", f"{bits} bits: {loss:.3g}"),
                x=f"{left + step / 5:.2f}",
                y=f"{_HEIGHT - height:.1f}",
                width=f"{step * 3 / 5:.2f}",
                height=f"{height:.1f}",
                class_="after",
            )
        )
        marks.append(_text(left + step / 2, _HEIGHT + 12, f"{bits}", "middle"))
    label = f"losses of {row.path} by bits"
    picture = as_picture(_WIDTH, _HEIGHT + _FOOT, label, *_lines(scale), *marks)
    return element("figure", picture, element("figcaption", row.path))


def front_picture(front: Front) -> Element:
    """Draw the loss of each point by its cost."""
    scale = _decades([point.loss for point in front.points])
    costs = [point.cost for point in front.points]
    least, span = min(costs), max(costs) - min(costs) or 1.0
    places = [
        (
            _LEFT + 6 + (point.cost - least) / span * (_WIDTH - _LEFT - 12),
            _HEIGHT - _height(point.loss, scale) * _HEIGHT,
        )
        for point in front.points
    ]
    line = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
    dots = [
        element(
            "circle",
            element("title", f"{point.cost:.10g} {front.unit}, {point.loss:.3g}"),
            cx=f"{x:.1f}",
            cy=f"{y:.1f}",
            r=3,
            class_="after",
        )
        for (x, y), point in zip(places, front.points, strict=True)
    ]
    ends = [
        _text(_LEFT, _HEIGHT + 12, f"{min(costs):.6g} {front.unit}", "start"),
        _text(_WIDTH, _HEIGHT + 12, f"{max(costs):.6g}", "end"),
    ]
    path = element("path", d=line, class_="edge")
    label = f"the least loss by {front.cost}"
    parts = (*_lines(scale), path, *dots, *ends)
    return as_picture(_WIDTH, _HEIGHT + _FOOT, label, *parts)


def _lines(scale: tuple[int, int]) -> list[Element]:
    """A line and a text for each power of ten."""
    low, high = scale
    parts = []
    for power in range(low, high + 1):
        y = _HEIGHT * (high - power) / (high - low)
        parts.append(element("path", d=f"M{_LEFT} {y:.1f}H{_WIDTH}", class_="axis"))
        if power in (low, high):
            parts.append(
                _text(_LEFT - 4, y + (8 if power == high else 0), f"1e{power}", "end")
            )
    return parts


def _text(x: float, y: float, text: str, anchor: str) -> Element:
    return element("text", text, x=f"{x:.1f}", y=f"{y:.1f}", text_anchor=anchor)
