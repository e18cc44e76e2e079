"""The graph of the model, coloured by the bits of its layers."""

from __future__ import annotations

from qframe.reports.blocks import Section, paragraph_with_key
from qframe.reports.markup import Element, element

_BITS = (1, 2, 4, 8, 16, 32)


def section(picture: Element) -> Section:
    """The picture of the graph, with a key."""
    return Section(
        "Model",
        [
            paragraph_with_key(
                "The fewer bits most weights of a layer have, the stronger its colour:",
                [(f"bits{bits}", f"{bits}") for bits in _BITS],
            ),
            element("div", picture, class_="scroll picture"),
        ],
    )
