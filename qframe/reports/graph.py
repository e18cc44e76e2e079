"""The picture of a model's graph, with the bits of its layers."""

from __future__ import annotations

from typing import Any

import attrs

from qframe import keras_internals
from qframe.layers.attachment import float_class_of
from qframe.models.model_profile import ModelProfile
from qframe.models.records import FLOAT_BITS, LayerProfile
from qframe.reports.layout import BOX, Layout, layered
from qframe.reports.page import Section, paragraph_with_key
from qframe.tables.markup import Element, as_picture, element

# The letters of a name and of a text that fit into a box.
_LETTERS = 31, 37
_BITS = (1, 2, 4, 8, 16, FLOAT_BITS)


@attrs.frozen
class LayerBox:
    """The text and the style of the box of a layer.

    Args:
        name: the path of the layer.
        kind: its class.
        weights: the bits of most of its weights; None without weights.
        input: the bits of its quantized input, or None.
    """

    name: str
    kind: str
    weights: int | None = None
    input: int | str | None = None

    @classmethod
    def of(cls, name: str, kind: str, layers: list[LayerProfile]) -> LayerBox:
        """Return a box from the profiles of its layers."""
        counts: dict[int, int] = {}
        for weight in (w for layer in layers for w in layer.weights):
            counts[weight.bits] = counts.get(weight.bits, 0) + weight.count
        most = max(counts, key=counts.__getitem__) if counts else None
        inputs = layers[0].input_precision if len(layers) == 1 else None
        return cls(name, kind, most, inputs)

    @property
    def text(self) -> str:
        """The class and the bits."""
        weights = "" if self.weights is None else f", {self.weights}-bit"
        inputs = "" if self.input is None else f", input {self.input}-bit"
        return f"{self.kind}{weights}{inputs}"

    @property
    def style(self) -> str:
        """The style of its colour, which is stronger for fewer bits."""
        if self.weights is None:
            return "box"
        limits = (limit for limit in _BITS if self.weights <= limit)
        return f"box bits{next(limits, FLOAT_BITS)}"


def section(picture: Element) -> Section:
    """Return the section with the picture of the graph and its key."""
    text = "The fewer bits most weights of a layer have, the stronger its colour:"
    key = paragraph_with_key(text, [(f"bits{bits}", f"{bits}") for bits in _BITS])
    return Section("Model", [key, element("div", picture, class_="scroll picture")])


def picture_of(model: Any, profile: ModelProfile) -> Element:
    """Draw the graph of a model, or list its layers where it has none."""
    graph = keras_internals.graph_of(model)
    if graph is None:
        boxes = [LayerBox.of(layer.name, layer.kind, [layer]) for layer in profile.layers]
        items = (element("li", element("b", box.name), f" {box.text}") for box in boxes)
        return element("ol", *items, class_="layers")
    nodes = list(keras_internals.nodes(graph))
    source = {id(t): index for index, node in enumerate(nodes) for t in node.outputs}
    edges = [
        (source[id(tensor)], index)
        for index, node in enumerate(nodes)
        for tensor in ([] if node.is_input else node.arguments.keras_tensors)
        if id(tensor) in source
    ]
    boxes = [_box_of(node.operation, profile) for node in nodes]
    return _picture(boxes, list(dict.fromkeys(edges)))


def _box_of(operation: Any, profile: ModelProfile) -> LayerBox:
    """Return the box of one call; an inner model is one box."""
    name = operation.name
    layers = [x for x in profile.layers if f"{x.name}/".startswith(f"{name}/")]
    return LayerBox.of(name, float_class_of(operation).__name__, layers)


def _picture(boxes: list[LayerBox], edges: list[tuple[int, int]]) -> Element:
    layout = layered(len(boxes), edges)
    return as_picture(
        *layout.size,
        f"{len(boxes)} layers and {len(edges)} connections",
        *_edges(layout),
        *(_draw(each, *at) for each, at in zip(boxes, layout.boxes, strict=True)),
    )


def _edges(layout: Layout) -> list[Element]:
    """Draw a curve for each edge; boxes cover its ends."""
    curves = []
    for points in layout.edges:
        x, y = points[0]
        path = [f"M{x:.1f} {y + BOX[1] / 2:.1f}"]
        y += BOX[1] / 2
        for index, (to_x, to_y) in enumerate(points[1:], 2):
            last = index == len(points)
            top = to_y - BOX[1] / 2
            half = (y + top) / 2
            path.append(f"C{x:.1f} {half:.1f} {to_x:.1f} {half:.1f} {to_x:.1f} {top:.1f}")
            if not last:
                path.append(f"V{to_y + BOX[1] / 2:.1f}")
            x, y = to_x, to_y + BOX[1] / 2
        curves.append(element("path", d="".join(path), class_="edge"))
    return curves


def _draw(box: LayerBox, x: float, y: float) -> Element:
    width, height = BOX
    shape = element(
        "rect",
        x=f"{x - width / 2:.1f}",
        y=f"{y - height / 2:.1f}",
        width=width,
        height=height,
        rx=6,
    )
    texts = zip((box.name, box.text), _LETTERS, (-3, 11), ("name", None), strict=True)
    lines = [
        element("text", _cut(text, most), x=f"{x:.1f}", y=f"{y + shift:.1f}", class_=style)
        for text, most, shift, style in texts
    ]
    title = element("title", f"{box.name}: {box.text}")
    return element("g", title, shape, *lines, class_=box.style)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
