"""The engine that runs a graph with NumPy, operation by operation."""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from qframe.deployment.graph.reference import run
from qframe_packed.graph import Graph
from qframe_packed.limits import cost_of, last_reads

Array = NDArray[Any]

# So many samples at once, and fewer where they need more bytes than that together: what
# is between two operations is that much memory.
_AT_ONCE = 32
_NEAR = 2**28


@attrs.define(eq=False)
class Interpreter:
    """A graph, operation by operation; threads may share it."""

    graph: Graph
    least_bytes: int = attrs.field(init=False)
    _last: dict[int, int] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._last = last_reads(self.graph)
        self.least_bytes = cost_of(self.graph).memory

    @property
    def kernels(self) -> list[str]:
        """What does the work of each node."""
        return ["numpy"] * len(self.graph.nodes)

    def predict(self, inputs: list[Array], threads: int = 1) -> list[Array]:
        """What the model returns; NumPy has threads of its own."""
        # An empty batch goes through too, for the shapes of what it returns.
        size = max(1, min(_AT_ONCE, _NEAR // self.least_bytes))
        starts = range(0, max(len(inputs[0]), 1), size)
        parts = [self._run([array[i : i + size] for array in inputs]) for i in starts]
        return [np.concatenate(output) for output in zip(*parts, strict=True)]

    def _run(self, inputs: list[Array]) -> list[Array]:
        kept = {i: np.asarray(array, np.float32) for i, array in enumerate(inputs)}
        for place, node in enumerate(self.graph.nodes, len(inputs)):
            kept[place] = run(node.operation, *(kept[i] for i in node.inputs))
            for index in set(node.inputs):
                if self._last[index] == place:
                    del kept[index]
        return [np.asarray(kept[i], np.float32) for i in self.graph.outputs]
