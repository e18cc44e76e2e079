"""Pictures of losses by bits and by cost, for reports and notebooks.

They bring their colours, which a style sheet may replace by their classes; text and lines
have the colour of the text around, on light and dark pages.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from qframe.tables.markup import Element, as_picture, element

# The size of a picture, and of the texts beside its axes.
_WIDTH, _HEIGHT, _LEFT, _FOOT = 300.0, 110.0, 44.0, 16.0
_FILL = "#4a90d9"
_GRID = {"fill": "none", "stroke": "currentColor"}

Decades = tuple[int, int]


def decades(losses: Iterable[float]) -> Decades:
    """Return the powers of ten around the losses, of which at most eight."""
    positive = [loss for loss in losses if 0 < loss < math.inf] or [1.0]
    top = math.ceil(math.log10(max(positive)) + 1e-9)
    return max(math.floor(math.log10(min(positive))), top - 8), top


def bars(path: str, losses: Mapping[int, float], scale: Decades) -> Element:
    """Return a figure with a bar for the loss of a layer in each number of bits."""
    step = (_WIDTH - _LEFT) / len(losses)
    marks = []
    for index, (bits, loss) in enumerate(losses.items()):
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
                fill=_FILL,
            )
        )
        marks.append(_text(left + step / 2, _HEIGHT + 12, f"{bits}", "middle"))
    label = f"losses of {path} by bits"
    picture = as_picture(_WIDTH, _HEIGHT + _FOOT, label, *_lines(scale), *marks)
    return _figure(picture, path)


def front(points: Sequence[tuple[float, float]], cost: str, unit: str) -> Element:
    """Return a figure with a line through points of costs and losses."""
    scale = decades(loss for _, loss in points)
    costs = [cost for cost, _ in points]
    least, span = min(costs), max(costs) - min(costs) or 1.0
    places = [
        (
            _LEFT + 6 + (cost - least) / span * (_WIDTH - _LEFT - 12),
            _HEIGHT - _height(loss, scale) * _HEIGHT,
        )
        for cost, loss in points
    ]
    line = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
    dots = [
        element(
            "circle",
            element("title", f"{spent:.10g} {unit}, {loss:.3g}"),
            cx=f"{x:.1f}",
            cy=f"{y:.1f}",
            r=3,
            class_="after",
            fill=_FILL,
        )
        for (x, y), (spent, loss) in zip(places, points, strict=True)
    ]
    ends = [
        _text(_LEFT, _HEIGHT + 12, f"{min(costs):.6g} {unit}", "start"),
        _text(_WIDTH, _HEIGHT + 12, f"{max(costs):.6g}", "end"),
    ]
    path = element("path", d=line, class_="edge", stroke_opacity="0.5", **_GRID)
    label = f"the least loss by {cost}"
    parts = (*_lines(scale), path, *dots, *ends)
    return _figure(as_picture(_WIDTH, _HEIGHT + _FOOT, label, *parts), label)


def side_by_side(figures: Iterable[Element]) -> Element:
    """Return figures in rows, for a page without a style sheet for them."""
    style = "display: flex; flex-wrap: wrap; gap: 0.5rem 1.5rem; margin: 0.5rem 0"
    return element("div", *figures, class_="charts", style=style)


def _figure(picture: Element, caption: str) -> Element:
    text = element("figcaption", caption, style="font-size: 0.8rem")
    return element("figure", picture, text, style="margin: 0")


def _height(loss: float, scale: Decades) -> float:
    """Return the height of a loss, as a part of a picture."""
    if loss <= 0:
        return 0.0
    low, high = scale
    place = (math.log10(loss) - low) / (high - low) if loss < math.inf else 1.0
    return min(max(place, 0.0), 1.0)


def _lines(scale: Decades) -> list[Element]:
    """Return a line for each power of ten, and the texts of the first and the last."""
    low, high = scale
    parts = []
    for power in range(low, high + 1):
        y = _HEIGHT * (high - power) / (high - low)
        place = f"M{_LEFT} {y:.1f}H{_WIDTH}"
        parts.append(element("path", d=place, class_="axis", stroke_opacity="0.2", **_GRID))
        if power in (low, high):
            parts.append(
                _text(_LEFT - 4, y + (8 if power == high else 0), f"1e{power}", "end")
            )
    return parts


def _text(x: float, y: float, text: str, anchor: str) -> Element:
    return element(
        "text",
        text,
        x=f"{x:.1f}",
        y=f"{y:.1f}",
        text_anchor=anchor,
        fill="currentColor",
        font_size=10,
        font_family="system-ui, sans-serif",
    )
