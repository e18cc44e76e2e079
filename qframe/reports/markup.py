"""HTML and SVG as trees, so that text is escaped wherever it stands."""

from __future__ import annotations

from xml.etree import ElementTree

Element = ElementTree.Element


def element(tag: str, *children: Element | str, **attributes: object) -> Element:
    """An element; attributes as in ``class_="a"`` and ``stroke_width=2``, None left out."""
    made = ElementTree.Element(
        tag,
        {
            key.rstrip("_").replace("_", "-"): str(value)
            for key, value in attributes.items()
            if value is not None
        },
    )
    for child in children:
        if not isinstance(child, str):
            made.append(child)
        elif len(made):
            made[-1].tail = (made[-1].tail or "") + child
        else:
            made.text = (made.text or "") + child
    return made


def to_html(root: Element) -> str:
    """The text of an element."""
    # What is in styles and scripts is not escaped, as browsers want it.
    return ElementTree.tostring(root, encoding="unicode", method="html")


def as_picture(width: float, height: float, label: str, *children: Element) -> Element:
    """A picture of this size at most, with a label for who does not see it."""
    return element(
        "svg",
        *children,
        viewBox=f"0 0 {width:g} {height:g}",
        width=f"{width:g}",
        height=f"{height:g}",
        role="img",
        aria_label=label,
    )
