"""The page of a report: one HTML file that loads nothing else."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from pathlib import Path

from qframe.reports.blocks import Section
from qframe.reports.markup import element, to_html

_HERE = Path(__file__).parent
_KINDS = ("css", "js")


def page_of(title: str, origin: str, sections: Iterable[Section]) -> str:
    """The HTML of a page.

    Args:
        title: its heading.
        origin: a line that says what it is made with.
        sections: its parts, from top to bottom.
    """
    style, script = (_HERE.joinpath(f"page.{kind}").read_text("utf-8") for kind in _KINDS)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    # Nothing is loaded, from anywhere, and no script runs but ours.
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
