"""The engine that runs a graph with NumPy."""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from qframe.deployment.graph.reference import run
from qframe_packed.graph import PackedGraph
from qframe_packed.limits import cost_of, last_reads

Array = NDArray[Any]

# The most samples that are computed together, and the most bytes of their tensors.
_MOST_SAMPLES = 32
_MOST_BYTES = 2**28


@attrs.define(eq=False)
class Interpreter:
    """Runs a graph, operation by operation; threads may share it."""

    graph: PackedGraph
    least_bytes: int = attrs.field(init=False)
    _last: dict[int, int] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._last = last_reads(self.graph)
        self.least_bytes = cost_of(self.graph).memory

    @property
    def kernels(self) -> list[str]:
        """The name of the kernel of each node."""
        return ["numpy"] * len(self.graph.nodes)

    def predict(self, inputs: list[Array], threads: int = 1) -> list[Array]:
        """The outputs of the model; NumPy uses threads as it likes."""
        # An empty batch is computed too, for the shapes of its outputs.
        size = max(1, min(_MOST_SAMPLES, _MOST_BYTES // self.least_bytes))
        starts = range(0, max(len(inputs[0]), 1), size)
        parts = [self._run([array[i : i + size] for array in inputs]) for i in starts]
        return [np.concatenate(output) for output in zip(*parts, strict=True)]

    def _run(self, inputs: list[Array]) -> list[Array]:
        tensors = {i: np.asarray(array, np.float32) for i, array in enumerate(inputs)}
        for place, node in enumerate(self.graph.nodes, len(inputs)):
            tensors[place] = run(node.operation, *(tensors[i] for i in node.inputs))
            for index in set(node.inputs):
                if self._last[index] == place:
                    del tensors[index]
        return [np.asarray(tensors[i], np.float32) for i in self.graph.outputs]
