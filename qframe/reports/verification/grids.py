"""The grids of the edges of a model, from its deployment graph."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from qframe.deployment.graph.fused import PRODUCTS
from qframe.deployment.graph.operations import Dequantize, Lookup, Quantize
from qframe.deployment.lowering import ExportTarget, lower
from qframe.errors import QFrameError

# Sums of 16-bit products need more than 32 bits.
_TARGET = ExportTarget("verify", sum_bits=64)


@attrs.frozen
class Grids:
    """The steps of the edges and outputs of a model, in the order that it computes them.

    Args:
        edges: the step of each edge by its name, or one for each channel; None for one
            that is not on a grid.
        outputs: the same of each output, where a quantizer rounds to it; empty for a model
            that is not lowered.
    """

    edges: Mapping[str, Any]
    outputs: tuple[Any, ...]

    @classmethod
    def of(cls, model: Any) -> Grids:
        """The grids of a model; none if it cannot be lowered."""
        try:
            graph = lower(model, _TARGET)
            values = graph.values()
        except QFrameError:
            return cls({}, ())
        steps = [None if value.grid is None else value.grid.scale for value in values]
        edges: dict[str, Any] = {}
        rounded = [False] * len(graph.inputs)
        for place, node in enumerate(graph.nodes, len(graph.inputs)):
            if isinstance(node.operation, Dequantize):
                # Real numbers that are on the grid of their integers.
                steps[place] = steps[node.inputs[0]]
            if node.edge:
                edges.setdefault(node.edge, steps[place])
            # Sums of integers have a grid, to which nothing rounds.
            sums = isinstance(node.operation, PRODUCTS)
            moved = not sums and any(rounded[i] for i in node.inputs)
            rounded.append(moved or isinstance(node.operation, (Lookup, Quantize)))
        return cls(edges, tuple(steps[i] if rounded[i] else None for i in graph.outputs))

    def step(self, edge: str) -> Any:
        """The step of an edge; None for one that is not on a known grid."""
        return self.edges.get(edge)

    def output_steps(self, count: int) -> tuple[Any, ...]:
        """The step of each output."""
        return self.outputs or (None,) * count
