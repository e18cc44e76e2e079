"""Where commands print to."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

# Wide enough that nothing is cut or wrapped where a program reads along.
_PIPED_WIDTH = 10_000


def console() -> Console:
    """A console on standard output: plain and unwrapped unless it is a terminal."""
    from rich.console import Console

    return Console(
        # Names and errors of plugins are text, not markup: "[sign]" shall be seen.
        markup=False,
        emoji=False,
        highlight=False,
        width=None if sys.stdout.isatty() else _PIPED_WIDTH,
    )


def table(columns: Iterable[str], rows: Iterable[Iterable[object]]) -> Table:
    """A table without frame. In a narrow terminal its cells wrap, names last."""
    from rich import box
    from rich.table import Table

    made = Table(
        box=box.SIMPLE_HEAD,
        header_style="bold",
        padding=(0, 2, 0, 0),
        pad_edge=False,
        show_edge=False,
    )
    for index, column in enumerate(columns):
        first = index == 0
        style = "cyan" if first else ""
        made.add_column(column, style=style, no_wrap=first, overflow="fold")
    for row in rows:
        made.add_row(*(one_line(cell) for cell in row))
    return made


def one_line(cell: object) -> str:
    """The text of a cell, which must not break the row that a program reads."""
    return " ".join(str(cell).split())
