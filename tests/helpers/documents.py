"""The documents, and what is in them."""

import re
from pathlib import Path

import attrs
from markdown_it import MarkdownIt  # which rich brings

ROOT = Path(__file__).parents[2]
PARSER = MarkdownIt().enable("table")
COMMENT = re.compile(r"<!-- (?P<kind>check\n|cell: )(?P<rest>.*?)-->\s*\Z", re.DOTALL)
# It shows plugins/README.md, and tests/template does what that says. The pages of the
# reference are made of docstrings, whose examples tests/test_docs.py runs too.
MADE = {"template.md"}
# Those whose examples tests/test_docs.py runs.
RUN = [
    ROOT / "README.md",
    *sorted(p for p in (ROOT / "docs").glob("*.md") if p.name not in MADE),
]
ALL = [
    *sorted(ROOT.glob("*.md")),
    ROOT / "plugins" / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]


@attrs.frozen
class Block:
    """A fenced block, or a comment."""

    language: str
    text: str


@attrs.frozen
class Cell:
    """A part of a page: its text, or code that runs.

    A fenced block of ``python`` is code that readers see. With the comment
    ``<!-- cell: hide-input -->`` above it the site folds its code and shows its output; the
    words are tags of cells in MyST-NB. A comment that begins with ``check`` is code that
    runs where it is and shows nowhere: what holds at this place of the page.

    Args:
        kind: ``"text"``, ``"code"`` or ``"check"``.
        text: Markdown or Python.
        line: the line in the page where the text begins.
        tags: the words of a comment above the code.
    """

    kind: str
    text: str
    line: int
    tags: tuple[str, ...] = ()


def cells(text):
    """The cells of a page in Markdown, from top to bottom."""
    lines = text.splitlines(keepends=True)
    begin, tags = 0, ()

    def before(end):
        prose = "".join(lines[begin:end])
        return [Cell("text", prose, begin)] if prose.strip() else []

    for token in PARSER.parse(text):
        if token.level or token.type not in ("fence", "html_block"):
            continue
        first, last = token.map
        comment = COMMENT.match(token.content) if token.type == "html_block" else None
        if token.type == "fence" and token.info.strip() == "python":
            yield from before(first)
            yield Cell("code", token.content, first + 1, tags)
            begin, tags = last, ()
        elif comment and comment["kind"] == "check\n":
            yield from before(first)
            yield Cell("check", comment["rest"], first + 1)
            begin = last
        elif comment:
            yield from before(first)
            begin, tags = last, tuple(comment["rest"].split())
    yield from before(len(lines))


def blocks(document):
    """The fenced blocks of a document and its comments, from top to bottom."""
    for token in PARSER.parse(document.read_text("utf-8")):
        if token.type == "fence":
            yield Block(token.info.strip(), token.content)
        elif token.type == "html_block":
            yield Block("<!--", token.content)


def spans(document):
    """The code between backticks within the text."""
    for token in _within(document):
        if token.type == "code_inline":
            yield token.content


def links(document):
    """The targets of the links and pictures of a document."""
    for token in _within(document):
        address = token.attrGet("href") or token.attrGet("src")
        if address:
            yield str(address)


def _within(document):
    tokens = PARSER.parse(document.read_text("utf-8"))
    return [child for token in tokens for child in token.children or ()]
