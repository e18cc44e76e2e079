"""The documents, and what is in them."""

from pathlib import Path

import attrs
from markdown_it import MarkdownIt  # which rich brings

ROOT = Path(__file__).parents[2]
PARSER = MarkdownIt().enable("table")
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
