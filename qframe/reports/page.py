"""The page of a report: one HTML file that asks for nothing else."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from qframe.reports.charts import histogram_picture
from qframe.reports.markup import Element, element, to_html
from qframe.tables import Table

if TYPE_CHECKING:
    from qframe.reports.model_report import ModelReport

_HERE = Path(__file__).parent
_KINDS = ("css", "js")
# Columns of words, by their heads.
_WORDS = ("Class", "Quantizer", "Outputs")
_LONG = ("Quantizer",)


def page_of(report: ModelReport) -> str:
    """The HTML of a report."""
    style, script = (_HERE.joinpath(f"page.{kind}").read_text("utf-8") for kind in _KINDS)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    # Nothing is asked for, from anywhere, and no script runs but ours.
    policy = (
        f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; "
        "img-src data:"
    )
    title = report.profile.name
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
        element("p", report.made_with),
        *_sections(report),
        element("script", script),
    )
    return "<!doctype html>\n" + to_html(element("html", head, body, lang="en")) + "\n"


def _sections(report: ModelReport) -> Iterator[Element]:
    yield _figures(report.figures())
    yield element("h2", "Model")
    yield element(
        "p",
        "The fewer bits most weights of a layer have, the stronger its colour:",
        *_key((f"bits{bits}", f"{bits}") for bits in (1, 2, 4, 8, 16, 32)),
        class_="key",
    )
    yield element("div", report.picture, class_="scroll picture")
    yield element("h2", "Layers")
    yield _table(report.layers_grid())
    yield element("h2", "Weights")
    yield element(
        "p",
        "What quantization does to each weight. SQNR is the ratio of signal to "
        "quantization noise in decibels; the cosine is that between the latent and the "
        "quantized weights, which no scale changes; saturated is the share of numbers at "
        "the ends of the grid.",
    )
    if report.weights:
        yield _table(report.weights_grid())
        yield element(
            "p",
            "Which numbers are how frequent, by the roots of their counts:",
            *_key([("before", "latent"), ("after", "quantized")]),
            class_="key",
        )
        yield element("div", *_histograms(report), class_="charts")
    else:
        yield element("p", "No weight of this model is quantized.")
    yield element("h2", "Activations")
    if report.activations is None:
        yield element(
            "p",
            "Ranges, and the noise of each layer, need data: ",
            element("code", "qframe report MODEL.keras --data FILE.npz -o FILE.html"),
            ".",
        )
    else:
        yield element(
            "p",
            "What each layer returns, against its float twin: the same model on the same "
            "data with its quantizers off. The worst first.",
        )
        yield _table(report.activations_grid(), sorted_by="SQNR\n(dB)")


def _figures(rows: Iterable[tuple[str, str]]) -> Element:
    return element(
        "dl",
        *(element("div", element("dt", name), element("dd", text)) for name, text in rows),
    )


def _key(entries: Iterable[tuple[str, str]]) -> Iterator[Element]:
    for style, text in entries:
        yield element("span", element("i", class_=style), text)


def _histograms(report: ModelReport) -> Iterator[Element]:
    for weight in report.weights:
        picture = histogram_picture(weight.histogram, weight.path)
        yield element("figure", picture, element("figcaption", weight.path))


def _table(grid: Table, sorted_by: str = "") -> Element:
    """A table that a click on the head of a column sorts."""
    styles = [
        " ".join(["text"] * (name in _WORDS) + ["long"] * (name in _LONG)) or None
        for name in grid.header
    ]
    heads = [
        element(
            "th",
            element("button", name, type="button"),
            scope="col",
            class_=style,
            aria_sort="ascending" if name == sorted_by else None,
        )
        for name, style in zip(grid.header, styles, strict=True)
    ]
    parts = [element("thead", element("tr", *heads))]
    parts.append(element("tbody", *(_row("td", row, styles) for row in grid.rows)))
    if grid.footer:
        parts.append(element("tfoot", _row("th", grid.footer, styles)))
    return element("div", element("table", *parts), class_="scroll")


def _row(tag: str, cells: Sequence[str], styles: Sequence[str | None]) -> Element:
    pairs = zip(cells, styles, strict=True)
    return element("tr", *(element(tag, text, class_=style) for text, style in pairs))
