"""A figure that a notebook shows wherever it was made.

IPython knows how to show a figure only once ``%matplotlib inline`` has told it.
"""

from __future__ import annotations

import io

import matplotlib
from matplotlib.figure import Figure


class ShownFigure(Figure):
    """A figure with its own picture for notebooks."""

    def _repr_svg_(self) -> str:
        stream = io.StringIO()
        # The same figure is the same text: no date, and names that are not drawn.
        with matplotlib.rc_context({"svg.hashsalt": "qframe"}):
            self.savefig(stream, format="svg", metadata={"Date": None})
        return stream.getvalue()
