"""Tables of text for terminals, notebooks and plain text; HTML and SVG in `markup`."""

from __future__ import annotations

import html
import io
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

_ANY_WIDTH = 2**20


@attrs.frozen
class Table:
    """A table of text; prints itself with rich and in a notebook.

    Args:
        title: in the border above, or a line above that if it is longer.
        header: the names of the columns; may be empty.
        rows: the text of each cell.
        footer: the last row; may be empty.
        notes: lines below it.

    Example:
        >>> from qframe.tables import Table
        >>> print(Table("weights", ["Weight", "Bits"], [["kernel", "1"]]).to_text())
        +weights-------+
        | Weight  Bits |
        +--------------+
        | kernel     1 |
        +--------------+
    """

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    footer: Sequence[str] = ()
    notes: Sequence[str] = ()

    def to_text(self) -> str:
        """The table at its full width, which cuts and wraps nothing."""
        return "\n".join([*self._framed(), *self.notes])

    def to_html(self) -> str:
        """The table as HTML."""
        sides = self._sides()
        lines = [
            "<table>",
            f"<caption>{html.escape(self.title)}</caption>",
            f"<thead>{_html_row('th', self.header, sides)}</thead>" if self.header else "",
            "<tbody>",
            *(_html_row("td", row, sides) for row in self.rows),
            "</tbody>",
            f"<tfoot>{_html_row('th', self.footer, sides)}</tfoot>" if self.footer else "",
            "</table>",
            *(f"<p>{html.escape(note)}</p>" for note in self.notes),
        ]
        return "\n".join(line for line in lines if line)

    def _repr_html_(self) -> str:
        return self.to_html()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The table, or a list in a console that is too narrow for it."""
        from rich.cells import cell_len
        from rich.text import Text

        framed = self._framed()
        fits = max(map(cell_len, framed)) <= options.max_width
        for line in framed if fits else (self.title, *self._lines()):
            yield Text(line)
        for note in self.notes:
            yield Text(note)

    def _sides(self) -> list[str]:
        """The alignment of each column: words to the left, other cells to the right."""
        columns = max(map(len, (self.header, *self.rows)), default=0)
        words = {i for row in self.rows for i, cell in enumerate(row) if cell[:1].isalpha()}
        return ["right" if i and i not in words else "left" for i in range(columns)]

    def _lines(self) -> Iterator[str]:
        """One line for each cell, below the first cell of its row."""
        header = [name.replace("\n", " ") for name in self.header[1:]]
        for row in [*self.rows, *([self.footer] if self.footer else [])]:
            if not header:
                yield " ".join(row)
                continue
            yield row[0]
            for name, cell in zip(header, row[1:], strict=True):
                if cell not in ("", "-", "0"):
                    yield f"  {name}: {cell}"

    def _framed(self) -> list[str]:
        """The lines of the table in its frame."""
        from rich import box, table
        from rich.cells import cell_len
        from rich.console import Console
        from rich.text import Text

        # Plain characters: the text goes to pipes, logs and terminals of any encoding.
        frame = "+--+\n|  |\n+--+\n|  |\n+--+\n+--+\n|  |\n+--+\n"
        # Text objects, because in a plain string rich would read "[1]" as markup.
        framed = table.Table(
            box=box.Box(frame, ascii=True),
            collapse_padding=True,
            header_style="",
            footer_style="",
            show_header=bool(self.header),
            show_footer=bool(self.footer),
        )
        columns = max(len(line) for line in (self.header, *self.rows))
        # Names of fewer lines start at the top, where rich would put them to the bottom.
        lines = max((name.count("\n") for name in self.header), default=0)
        for column in range(columns):
            name = self.header[column] if self.header else ""
            framed.add_column(
                Text(name + "\n " * (lines - name.count("\n"))),
                Text(self.footer[column]) if self.footer else "",
                justify="right" if column and self.header else "left",
                overflow="fold",
            )
        for row in self.rows:
            framed.add_row(*(Text(cell) for cell in row))
        stream = io.StringIO()
        Console(file=stream, width=_ANY_WIDTH, force_jupyter=False).print(framed)
        border, *rest = stream.getvalue().rstrip().split("\n")
        left = len(border) - 2 - cell_len(self.title)
        if left < 0:
            return [self.title, border, *rest]
        return [f"+{self.title}{'-' * left}+", *rest]


class Tabular:
    """A mixin for results that are shown as tables: printed, by rich and in a notebook."""

    __slots__ = ()

    def tables(self) -> Sequence[Table]:
        """The tables, from top to bottom."""
        raise NotImplementedError

    def __str__(self) -> str:
        return "\n".join(table.to_text() for table in self.tables())

    def __rich__(self) -> Any:
        from rich.console import Group

        return Group(*self.tables())

    def _repr_html_(self) -> str:
        return "\n".join(table.to_html() for table in self.tables())


def readable(number: int) -> str:
    """Three significant figures: ``468``, ``93.1 k``, ``2.79 M``."""
    scaled = float(f"{number:.3g}")  # first, so that 999999 becomes 1 M and not 1000 k
    if scaled >= 1e15:
        return f"{scaled:.2E}"
    for unit in ("", " k", " M", " B"):
        if scaled < 1000:
            return f"{scaled:.3g}{unit}"
        scaled /= 1000
    return f"{scaled:.3g} T"


def readable_size(bits: int) -> str:
    """Bits as bytes with two decimals: ``13.19 KiB``."""
    scaled = bits / 8
    for unit in ("B", "KiB", "MiB"):
        if scaled < 1024:
            return f"{scaled:.2f} {unit}"
        scaled /= 1024
    return f"{scaled:.2f} GiB"


def _html_row(tag: str, cells: Sequence[str], sides: Sequence[str]) -> str:
    row = ""
    for align, text in zip(sides, cells, strict=False):
        content = html.escape(text).replace("\n", "<br>")
        row += f'<{tag} style="text-align: {align}">{content}</{tag}>'
    return f"<tr>{row}</tr>"
