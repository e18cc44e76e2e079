"""HTML and SVG as trees with escaped text."""

from __future__ import annotations

from xml.etree import ElementTree

Element = ElementTree.Element


def element(tag: str, *children: Element | str, **attributes: object) -> Element:
    """Return an element; ``class_="a"`` is an attribute, and so is ``stroke_width=2``."""
    parent = ElementTree.Element(
        tag,
        {
            key.rstrip("_").replace("_", "-"): str(value)
            for key, value in attributes.items()
            if value is not None
        },
    )
    for child in children:
        if not isinstance(child, str):
            parent.append(child)
        elif len(parent):
            parent[-1].tail = (parent[-1].tail or "") + child
        else:
            parent.text = (parent.text or "") + child
    return parent


def to_html(root: Element) -> str:
    """Return the text of an element."""
    # The method "html" does not escape styles and scripts, as browsers require.
    return ElementTree.tostring(root, encoding="unicode", method="html")


def as_picture(width: float, height: float, label: str, *children: Element) -> Element:
    """Return a picture of at most this size, with a label for screen readers."""
    return element(
        "svg",
        *children,
        viewBox=f"0 0 {width:g} {height:g}",
        width=f"{width:g}",
        height=f"{height:g}",
        role="img",
        aria_label=label,
    )
