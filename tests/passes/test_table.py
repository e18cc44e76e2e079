"""docs/topologies.md says what holds on which backend; each backend checks its own marks.

To write them, after a topology was added, with ``KERAS_BACKEND`` for the others:
``QFRAME_WRITE_TABLE=1 pytest tests/passes/test_table.py``. With ``--share``, as in
CI, one row in twelve is checked.
"""

import os
from pathlib import Path

import keras
import pytest

from lifecycle import COLUMNS, lifecycles
from topology_models import TOPOLOGIES

DOCUMENT = Path(__file__).parents[2] / "docs" / "topologies.md"
BEGIN, END = "<!-- begin of the table -->\n", "<!-- end of the table -->\n"
BACKENDS = {"tensorflow": "T", "jax": "J", "torch": "P"}
HEADER = ("topology", "layers", *COLUMNS)
pytestmark = pytest.mark.once_per_backend


def read(text):
    """The marks of a document, by topology and column."""
    table = text.partition(BEGIN)[2].partition(END)[0]
    marks = {}
    for line in table.splitlines()[2:]:
        name, _layers, *cells = (cell.strip() for cell in line.strip("|").split("|"))
        marks |= {(name, c): set(cell) for c, cell in zip(COLUMNS, cells, strict=True)}
    return marks


def write(text, marks):
    """The document with other marks."""
    rows = [HEADER, ["---"] * len(HEADER)]
    for topology in TOPOLOGIES:
        cells = [marks.get((str(topology), column), set()) for column in COLUMNS]
        letters = [[b for b in BACKENDS.values() if b in cell] for cell in cells]
        rows.append([str(topology), str(topology.kernels), *map(" ".join, letters)])
    table = "".join(f"| {' | '.join(row)} |\n" for row in rows)
    before, _, after = text.partition(BEGIN)
    return before + BEGIN + table + END + after.partition(END)[2]


def test_the_table(tmp_path, pytestconfig):
    topologies = TOPOLOGIES[:: 12 if pytestconfig.getoption("share") else 1]
    errors = lifecycles(topologies, tmp_path)
    assert not errors, "\n".join(f"{where}: {error}" for where, error in errors.items())
    text = DOCUMENT.read_text("utf-8")
    marks, letter = read(text), BACKENDS[keras.backend.backend()]
    for topology in topologies:
        for column in COLUMNS:
            cell = marks.setdefault((str(topology), column), set())
            holds = column != "train" or topology.trains
            (cell.add if holds else cell.discard)(letter)
    actual = write(text, marks)
    if os.environ.get("QFRAME_WRITE_TABLE"):
        DOCUMENT.write_text(actual, "utf-8")
    else:
        assert actual == text, "the table is out of date; see the head of this test"


def test_topologies_that_do_not_train_fail_in_float_too():
    for topology in TOPOLOGIES:
        if not topology.trains:
            model = topology.model()
            topology.compile(model)
            with pytest.raises(RuntimeError):
                topology.fit(model)


def test_the_table_has_every_topology_and_each_mark_its_place():
    text = DOCUMENT.read_text("utf-8")
    assert write(text, read(text)) == text
    assert write(text, {}) != text
