"""No cell of the table in README.md is without a test or a mark that it was read."""

import re
from pathlib import Path

import pytest

from peers import comparison

PEERS = Path(comparison.__file__).parent


@pytest.mark.parametrize("head", comparison.table())
def test_every_cell_is_held_or_marked(head):
    name = head.split()[0]
    source = (PEERS / f"test_cells_of_{name.lower()}.py").read_text("utf-8")
    checked = set(re.findall(r'cells\["(.+?)"\]', source))
    rows = comparison.cells(name)
    assert checked == {r for r, cell in rows.items() if not cell.endswith(comparison.READ)}


def test_the_table_is_found():
    columns = comparison.table()
    assert len(columns) == 6
    assert all(len(rows) >= 17 and all(rows.values()) for rows in columns.values())
