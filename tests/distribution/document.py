"""The programs of docs/distribution.md, run where their engine is set up."""

import re
from pathlib import Path

TEXT = (Path(__file__).parents[2] / "docs" / "distribution.md").read_text("utf-8")


def programs(*headings):
    """The blocks right below some headings, one within the other."""
    path, result = [], {}
    for part in re.split(r"^(?=#+ )", TEXT, flags=re.MULTILINE):
        if part:
            marks, title = re.match(r"(#+) (.*)", part).groups()
            path = [*path[: len(marks) - 1], title]
            result[tuple(path[1:])] = re.findall(
                r"```py(?:thon)?\n(.*?)```", part, re.DOTALL
            )
    return result[headings]


def run(*headings, skip=0, **names):
    """Run the programs below some headings, after the one that makes the model."""
    blocks = programs(*headings)[skip:]
    assert blocks
    for block in [*programs(), *blocks]:
        exec(compile(block, "distribution.md", "exec"), names)
