"""The page of a report, one HTML file that loads no others, and its building blocks."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import attrs

from qframe.tables import Table
from qframe.tables.markup import Element, element, to_html

_HERE = Path(__file__).parent
_KINDS = ("css", "js")
# The heads of columns that are aligned as text, and of wide ones.
_TEXT = ("Class", "Quantizer", "Outputs")
_LONG = ("Quantizer",)


@attrs.frozen
class Section:
    """A part of a page.

    Args:
        title: its heading; empty for none.
        elements: the content below the heading.
    """

    title: str
    elements: Sequence[Element]

    def __iter__(self) -> Iterator[Element]:
        if self.title:
            yield element("h2", self.title)
        yield from self.elements


def page_of(title: str, origin: str, sections: Iterable[Section]) -> str:
    """Return the HTML of a page.

    Args:
        title: its heading.
        origin: a line with the versions that made it.
        sections: its parts, from top to bottom.
    """
    style, script = (_HERE.joinpath(f"page.{kind}").read_text("utf-8") for kind in _KINDS)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    # The page loads no resources, and only this script may run.
    policy = (
        f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; "
        "img-src data:"
    )
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("link", rel="icon", href="data:,"),
        element("title", title),
        element("style", style),
    )
    body = element(
        "body",
        element("h1", title),
        element("p", origin),
        *(part for section in sections for part in section),
        element("script", script),
    )
    return "<!doctype html>\n" + to_html(element("html", head, body, lang="en")) + "\n"


def definitions(rows: Iterable[Sequence[str]]) -> Element:
    """Return a list of names with their values."""
    return element(
        "dl",
        *(element("div", element("dt", name), element("dd", text)) for name, text in rows),
    )


def paragraph_with_key(text: str, entries: Iterable[tuple[str, str]]) -> Element:
    """Return a paragraph that ends in a key of colours."""
    key = (element("span", element("i", class_=style), name) for style, name in entries)
    return element("p", text, *key, class_="key")


def sortable(table: Table, sorted_by: str = "") -> Element:
    """Return a table that a click on the head of a column sorts."""
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
