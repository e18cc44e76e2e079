"""The engine that runs a graph with NumPy."""

from __future__ import annotations

from collections.abc import Iterator
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
        parts = [self._run(part) for part in self._parts(inputs)]
        return [np.concatenate(output) for output in zip(*parts, strict=True)]

    def edges(self, inputs: list[Array]) -> dict[str, Array]:
        """The tensors that are edges of the model, by name."""
        parts: list[dict[str, Array]] = []
        for part in self._parts(inputs):
            parts.append({})
            self._run(part, parts[-1])
        return {edge: np.concatenate([part[edge] for part in parts]) for edge in parts[0]}

    def _parts(self, inputs: list[Array]) -> Iterator[list[Array]]:
        """The parts of a batch that are computed together."""
        # An empty batch is computed too, for the shapes of its outputs.
        size = max(1, min(_MOST_SAMPLES, _MOST_BYTES // self.least_bytes))
        for start in range(0, max(len(inputs[0]), 1), size):
            yield [array[start : start + size] for array in inputs]

    def _run(
        self, inputs: list[Array], edges: dict[str, Array] | None = None
    ) -> list[Array]:
        """The outputs; the tensors that are edges are added to `edges`."""
        tensors = {i: np.asarray(array, np.float32) for i, array in enumerate(inputs)}
        for place, node in enumerate(self.graph.nodes, len(inputs)):
            tensors[place] = run(node.operation, *(tensors[i] for i in node.inputs))
            if edges is not None and node.edge:
                # Integers come before their real numbers, which have the same name.
                edges.setdefault(node.edge, tensors[place])
            for index in set(node.inputs):
                if self._last[index] == place:
                    del tensors[index]
        return [np.asarray(tensors[i], np.float32) for i in self.graph.outputs]
