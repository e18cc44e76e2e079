"""The edges of a model: the tensors between its layers, by name.

The edge ``"dense"`` is the output of the layer `dense`, and ``"dense:input"`` that of its
input quantizer. A layer with several inputs, or one that is called again, has the same
edge once more, which a number tells apart: ``"add:input#2"``.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import attrs


@attrs.frozen(eq=False)
class Edge:
    """The numbers of an edge, as a runtime computes them.

    Args:
        values: (batch, ...), in the order of axes of the layer. Floats, or integers that
            are counted from the zero point: 0 stands for 0.0.
        scale: the real number that the integer 1 stands for, or an array with one for each
            channel. Default None: for floats; integers of a file that has no scale for
            them get that of the model.

    Example:
        >>> import numpy as np
        >>> from qframe.deployment.graph.edges import Edge
        >>> stored, zero_point = np.array([[120, 130]]), 128
        >>> Edge(stored - zero_point, scale=0.5).scale
        0.5
    """

    values: Any
    scale: Any = None


class EdgeNames:
    """Names edges, in the order in which the model computes them.

    Example:
        >>> from qframe.deployment.graph.edges import EdgeNames
        >>> names = EdgeNames()
        >>> names.of_input("add"), names.of_input("add"), names.of_output("add")
        ('add:input', 'add:input#2', 'add')
    """

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def of_output(self, path: str) -> str:
        """The next output of the layer with a path."""
        self._counts[path] += 1
        count = self._counts[path]
        return path if count == 1 else f"{path}#{count}"

    def of_input(self, path: str) -> str:
        """The next output of the input quantizer of the layer with a path."""
        return self.of_output(f"{path}:input")
