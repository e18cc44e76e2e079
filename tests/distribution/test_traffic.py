"""The numbers of "Scaling on paper"."""

import re
from pathlib import Path

import numpy as np
import pytest

import qframe as qf

DOCUMENT = (Path(__file__).parents[2] / "docs" / "distribution.md").read_text("utf-8")
TRAINABLE, BINARY = (
    int(number.replace(" ", ""))
    for number in re.search(
        r"QuickNet's ([\d ]+) trainable parameters ([\d ]+) are", " ".join(DOCUMENT.split())
    ).groups()
)


def row(workers):
    """Megabytes that each worker sends in a step, and milliseconds."""
    ring = 2 * (workers - 1) / workers
    full = ring * 4 * TRAINABLE
    signs = (workers - 1) * BINARY / 8 + ring * 4 * (TRAINABLE - BINARY)
    numbers = full / 1e6, full * 8 / 10e9 * 1e3, full / 2e6, signs / 1e6
    return "| " + " | ".join([f"{workers}", *(f"{n:.1f}" for n in numbers)]) + " |"


def test_the_table():
    rows = re.findall(r"^\| \d+ \|.*\|$", DOCUMENT, re.MULTILINE)
    assert rows == [row(2**power) for power in range(7)]


@pytest.mark.long
def test_counted_variables_are_those_of_quicknet():
    from qframe import zoo

    variables = zoo.QuickNet().trainable_variables
    sizes = {id(v): int(np.prod(v.shape)) for v in variables}
    assert sum(sizes.values()) == TRAINABLE
    binary = filter(qf.optimizers.Bop.is_binary_variable, variables)
    assert sum(sizes[id(v)] for v in binary) == BINARY
