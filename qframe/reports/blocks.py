"""The blocks that sections of a page are made of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import attrs

from qframe.reports.markup import Element, element
from qframe.tables import Table

# Columns that are aligned as text, and those that are wide, by their heads.
_TEXT = ("Class", "Quantizer", "Outputs")
_LONG = ("Quantizer",)


@attrs.frozen
class Section:
    """A part of a page.

    Args:
        title: its heading; empty for none.
        elements: what is below the heading.
    """

    title: str
    elements: Sequence[Element]

    def __iter__(self) -> Iterator[Element]:
        if self.title:
            yield element("h2", self.title)
        yield from self.elements


def definitions(rows: Iterable[Sequence[str]]) -> Element:
    """A list of names, each with its value."""
    return element(
        "dl",
        *(element("div", element("dt", name), element("dd", text)) for name, text in rows),
    )


def paragraph_with_key(text: str, entries: Iterable[tuple[str, str]]) -> Element:
    """A paragraph that ends in what each colour means."""
    key = (element("span", element("i", class_=style), name) for style, name in entries)
    return element("p", text, *key, class_="key")


def sortable(table: Table, sorted_by: str = "") -> Element:
    """A table that a click on the head of a column sorts."""
    styles = [
        " ".join(["text"] * (name in _TEXT) + ["long"] * (name in _LONG)) or None
        for name in table.header
    ]
    heads = [
        element(
            "th",
            element("button", name, type="button"),
            scope="col",
            class_=style,
            aria_sort="ascending" if name == sorted_by else None,
        )
        for name, style in zip(table.header, styles, strict=True)
    ]
    parts = [element("thead", element("tr", *heads))]
    parts.append(element("tbody", *(_row("td", row, styles) for row in table.rows)))
    if table.footer:
        parts.append(element("tfoot", _row("th", table.footer, styles)))
    return element("div", element("table", *parts), class_="scroll")


def _row(tag: str, cells: Sequence[str], styles: Sequence[str | None]) -> Element:
    pairs = zip(cells, styles, strict=True)
    return element("tr", *(element(tag, text, class_=style) for text, style in pairs))
