"""Tables as text, for rich and as HTML."""

from __future__ import annotations

import html
import io
from collections.abc import Iterator, Sequence

import attrs
from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from qframe.tables import Table

# Plain characters: the text goes to pipes, logs and terminals of any encoding. Rows are
# separated, columns are not.
_BOX = box.Box("+--+\n|  |\n+--+\n|  |\n+--+\n+--+\n|  |\n+--+\n", ascii=True)
_ANY_WIDTH = 2**20


def to_text(grid: Table) -> str:
    """The table at its full width, whatever the terminal: nothing is cut or wrapped."""
    stream = io.StringIO()
    console = Console(file=stream, width=_ANY_WIDTH, force_jupyter=False)
    console.print(_table(grid))
    return "\n".join([grid.title, stream.getvalue().rstrip(), *grid.notes])


@attrs.frozen
class RichTables:
    """The tables for a rich console; lists where it is too narrow, as rich would cut."""

    grids: Sequence[Table]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for grid in self.grids:
            table = _table(grid)
            wide = options.update(width=_ANY_WIDTH)
            fits = Measurement.get(console, wide, table).maximum <= options.max_width
            yield Text(grid.title)
            yield table if fits else Text("\n".join(_lines(grid)))
            for note in grid.notes:
                yield Text(note)


def to_html(grid: Table) -> str:
    """The table as HTML."""
    header = "".join(_cell("th", text, n) for n, text in enumerate(grid.header))
    footer = "".join(_cell("th", text, n) for n, text in enumerate(grid.footer))
    lines = [
        "<table>",
        f"<caption>{html.escape(grid.title)}</caption>",
        f"<thead><tr>{header}</tr></thead>" if header else "",
        "<tbody>",
        *(
            "<tr>" + "".join(_cell("td", c, n) for n, c in enumerate(row)) + "</tr>"
            for row in grid.rows
        ),
        "</tbody>",
        f"<tfoot><tr>{footer}</tr></tfoot>" if footer else "",
        "</table>",
        *(f"<p>{html.escape(note)}</p>" for note in grid.notes),
    ]
    return "\n".join(line for line in lines if line)


def _cell(tag: str, text: str, column: int) -> str:
    align = "left" if column == 0 else "right"
    content = html.escape(text).replace("\n", "<br>")
    return f'<{tag} style="text-align: {align}">{content}</{tag}>'


def _lines(grid: Table) -> Iterator[str]:
    """The table as one line a figure, under the name that is first in its row."""
    header = [name.replace("\n", " ") for name in grid.header[1:]]
    for row in [*grid.rows, *([grid.footer] if grid.footer else [])]:
        if not header:
            yield " ".join(row)
            continue
        yield row[0]
        for name, cell in zip(header, row[1:], strict=True):
            if cell not in ("", "-", "0"):
                yield f"  {name}: {cell}"


def _table(grid: Table) -> Table:
    # Text objects, because in a plain string rich would read "[1]" as markup.
    table = Table(
        box=_BOX,
        collapse_padding=True,
        header_style="",
        footer_style="",
        show_header=bool(grid.header),
        show_footer=bool(grid.footer),
    )
    columns = max(len(line) for line in (grid.header, *grid.rows))
    for column in range(columns):
        table.add_column(
            Text(grid.header[column]) if grid.header else "",
            Text(grid.footer[column]) if grid.footer else "",
            justify="right" if column and grid.header else "left",
            overflow="fold",
        )
    for row in grid.rows:
        table.add_row(*(Text(cell) for cell in row))
    return table
