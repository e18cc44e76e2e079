"""The table of README.md that compares qframe with others.

For each of its columns there is a module `test_cells_of_NAME.py`. It names every row by
``cells["row"]`` and compares the cell with what the peer does, except for cells marked as
read. tests/test_comparison.py sees that no row is left out.
"""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
READ = "(read)"


def table():
    """The cells by column, then by row. The heads of columns hold names and versions."""
    text = (ROOT / "README.md").read_text("utf-8").partition("## Beside others\n")[2]
    lines = [line for line in text.partition("\n## ")[0].splitlines() if line[:1] == "|"]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    (_, *heads), _, *rows = rows
    return {
        re.sub(r"\[(.*?)\]\(.*?\)", r"\1", head): {row[0]: row[n] for row in rows}
        for n, head in enumerate(heads, 1)
    }


def cells(peer):
    """The cells of a peer, by row."""
    (result,) = (rows for head, rows in table().items() if head.split()[0] == peer)
    return result


def version(peer):
    """The version of a peer that its column is about."""
    (head,) = (head for head in table() if head.split()[0] == peer)
    return head.split()[1]
