"""Tables as text, in a terminal and as HTML, and the numbers in them."""

import io
from xml.etree import ElementTree

import pytest
import rich.console

from qframe.tables import Table, readable, readable_size

pytestmark = pytest.mark.pure

TABLE = Table(
    "[title] & more",
    ("Name", "A <number>\nin two lines"),
    [("[bold]first", "1"), ("second", "-")],
    ("Total", "1"),
    ["a note"],
)
TEXT = """\
+[title] & more-------------+
| Name           A <number> |
|              in two lines |
+---------------------------+
| [bold]first             1 |
| second                  - |
+---------------------------+
| Total                   1 |
+---------------------------+
a note"""
LIST = """\
[title] & more
[bold]first
  A <number> in two lines: 1
second
Total
  A <number> in two lines: 1
a note
"""


def printed(table, width):
    console = rich.console.Console(width=width, file=io.StringIO())
    console.print(table)
    return console.file.getvalue()


def test_text():
    assert TABLE.to_text() == TEXT


def test_a_wide_terminal_shows_the_text():
    shown = printed(TABLE, 29)
    assert [line.rstrip() for line in shown.splitlines()] == TEXT.splitlines()


@pytest.mark.parametrize(
    ("title", "above"),
    [
        ("sizes", ["+sizes------+"]),
        ("字字字字字", ["+字字字字字-+"]),
        ("as wide: 11", ["+as wide: 11+"]),
        ("a wider title", ["a wider title", "+-----------+"]),
    ],
)
def test_a_title_is_in_the_border_if_it_fits(title, above):
    lines = Table(title, (), [("small", "12")]).to_text().splitlines()
    assert lines == [*above, "| small  12 |", "+-----------+"]


def test_a_narrow_terminal_shows_a_list():
    assert printed(TABLE, 28) == LIST


def test_html_is_whole_and_escaped():
    html = TABLE.to_html()
    page = ElementTree.fromstring(f"<body>{html}</body>".replace("<br>", "<br/>"))
    assert html == TABLE._repr_html_()
    assert page.findtext("table/caption") == TABLE.title
    assert [c.text for c in page.iterfind("table/tbody/tr/td")] == [
        *TABLE.rows[0],
        *TABLE.rows[1],
    ]
    assert [c.text for c in page.iterfind("table/tfoot/tr/th")] == [*TABLE.footer]
    assert [c.text for c in page.iterfind("p")] == [*TABLE.notes]
    (_, head) = page.iterfind("table/thead/tr/th")
    assert (head.text, head[0].tag, head[0].tail) == ("A <number>", "br", "in two lines")


def test_html_has_words_on_the_left_and_numbers_on_the_right():
    rows = [("dense", "Dense", "4", "-"), ("conv", "Conv2D", "12 of 20", "3")]
    html = Table("layers", ("Layer", "Class", "Numbers", "Bits"), rows).to_html()
    page = ElementTree.fromstring(f"<body>{html}</body>")
    for row in page.iterfind("table/*/tr"):
        sides = [cell.get("style").removeprefix("text-align: ") for cell in row]
        assert sides == ["left", "left", "right", "right"]
    empty = Table("layers", ("Layer", "Numbers"), []).to_html()
    assert empty.count("<th ") == 2


def test_a_table_without_header_and_footer():
    table = Table("sizes", (), [("small", "1"), ("large", "20")])
    assert table.to_text().splitlines()[1:-1] == [
        "| small  1  |",
        "| large  20 |",
    ]
    assert printed(table, 6) == "sizes\nsmall \n1\nlarge \n20\n"
    assert "thead" not in table.to_html()


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"),
        (468, "468"),
        (999, "999"),
        (1000, "1 k"),
        (93088, "93.1 k"),
        (93556, "93.6 k"),
        (999_600, "1 M"),
        (2_794_240, "2.79 M"),
        (25_600_000_000, "25.6 B"),
        (4_100_000_000_000, "4.1 T"),
        (10**16, "1.00E+16"),
    ],
)
def test_readable(number, text):
    assert readable(number) == text


@pytest.mark.parametrize(
    ("bits", "text"),
    [
        (0, "0.00 B"),
        (12, "1.50 B"),
        (8 * 1024, "1.00 KiB"),
        (108064, "13.19 KiB"),
        (8 * 1024**2 * 3 // 2, "1.50 MiB"),
        (8 * 1024**4, "1024.00 GiB"),
    ],
)
def test_readable_size(bits, text):
    assert readable_size(bits) == text
