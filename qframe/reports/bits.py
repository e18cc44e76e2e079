"""The losses of layers in few bits, and the best choices of bits, as sections."""

from __future__ import annotations

from qframe.passes import Front, Sensitivity
from qframe.reports.page import Section, sortable
from qframe.tables.markup import element


def section_of_losses(table: Sensitivity) -> Section:
    """Return the section with a table of losses, and bars for each layer."""
    text = (
        f"The {table.metric_name} of the outputs with one layer alone in few bits, on "
        f"{table.examples} examples. In the bars each line is ten times the one below."
    )
    notes = [element("p", note) for note in table.tables()[0].notes]
    parts = [element("p", text), sortable(table.tables()[0]), *notes]
    charts = element("div", *table.figures(), class_="charts")
    return Section("Sensitivity", [*parts, charts])


def section_of_front(front: Front) -> Section:
    """Return the section with the best choices of bits, as a table and a picture."""
    text = f"The least loss by {front.cost}, and the bits of each layer for it."
    chart = element("div", front.figure(), class_="charts")
    return Section(
        "Bits by layer", [element("p", text), chart, sortable(front.tables()[0])]
    )
