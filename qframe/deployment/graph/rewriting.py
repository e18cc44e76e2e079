"""The rewriting of a graph, rule by rule."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, TypeVar

import attrs

from qframe.deployment.graph.graph import Graph, Node
from qframe.deployment.graph.operations import Operation

_G = TypeVar("_G", bound=Graph)


class Draft:
    """A graph whose nodes have keys, so that they can be replaced."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self.values = dict(enumerate(graph.values()))
        self.nodes = dict(enumerate(graph.nodes, len(graph.inputs)))
        self._reads = Counter(i for node in graph.nodes for i in node.inputs)

    def producer(
        self, key: int, kind: type[Operation] | tuple[type[Operation], ...]
    ) -> Any:
        """The node that computes a tensor, if its operation is of a kind; else None."""
        node = self.nodes.get(key)
        return node if node is not None and isinstance(node.operation, kind) else None

    def has_one_reader(self, key: int) -> bool:
        """Return whether a single node reads a tensor, and the model does not return it."""
        return self._reads[key] == 1 and key not in self._graph.outputs

    def leads_to(
        self, key: int, kind: type[Operation], through: tuple[type[Operation], ...]
    ) -> bool:
        """Return whether an operation of a kind reads a tensor, perhaps through others."""
        readers = [
            (k, node.operation) for k, node in self.nodes.items() if key in node.inputs
        ]
        return any(
            isinstance(operation, kind)
            or (isinstance(operation, through) and self.leads_to(reader, kind, through))
            for reader, operation in readers
        )

    def set_node(self, key: int, operation: Operation, *inputs: int, name: str) -> None:
        """Compute a tensor by another node, which remains the same edge of the model."""
        before = self.nodes.get(key)
        edge = ""
        if before is not None:
            self._reads.subtract(before.inputs)
            edge = before.edge
        self._reads.update(inputs)
        self.nodes[key] = Node(operation, inputs, name, edge)
        self.values[key] = self._graph.infer(operation, *(self.values[i] for i in inputs))

    def add(self, operation: Operation, *inputs: int, name: str) -> int:
        """Add a node; returns the key of its tensor."""
        key = max(self.nodes) + 1
        self.set_node(key, operation, *inputs, name=name)
        return key

    def replace(self, key: int, other: int) -> None:
        """Let all readers of a tensor read another one of the same numbers."""
        if other in self.nodes and not self.nodes[other].edge:
            edge = self.nodes[key].edge
            self.nodes[other] = attrs.evolve(self.nodes[other], edge=edge)
        for reader, node in self.nodes.items():
            if key in node.inputs:
                inputs = tuple(other if i == key else i for i in node.inputs)
                self.nodes[reader] = attrs.evolve(node, inputs=inputs)
        self._reads[other] += self._reads.pop(key, 0)
        outputs = tuple(other if i == key else i for i in self._graph.outputs)
        self._graph = attrs.evolve(self._graph, outputs=outputs)

    def graph(self) -> Any:
        """The graph, in order, without the nodes that no output depends on."""
        count = len(self._graph.inputs)
        order = {key: key for key in range(count)}
        waiting = list(reversed(self._graph.outputs))
        while waiting:
            key = waiting[-1]
            inputs = () if key in order else self.nodes[key].inputs
            missing = [i for i in inputs if i not in order]
            if missing:
                waiting += reversed(missing)
                continue
            waiting.pop()
            order.setdefault(key, len(order))
        kept = [self.nodes[key] for key in order if key >= count]
        nodes = tuple(
            attrs.evolve(node, inputs=tuple(order[i] for i in node.inputs)) for node in kept
        )
        outputs = tuple(order[key] for key in self._graph.outputs)
        return attrs.evolve(self._graph, nodes=nodes, outputs=outputs)


# Rewrites the node of a key, or returns False.
Rule = Callable[[Draft, int, Node], bool]


def rewrite(graph: _G, rules: tuple[Rule, ...]) -> _G:
    """The graph, rewritten until no rule applies."""
    changed = True
    while changed:
        draft = Draft(graph)
        changed = any(_sweep(draft, rule) for rule in rules)
        graph = draft.graph()
    return graph


def _sweep(draft: Draft, rule: Rule) -> bool:
    """Apply a rule to each node of a graph once; returns whether it changed any."""
    # What a rule leaves without readers stays until the next sweep.
    return sum([rule(draft, key, draft.nodes[key]) for key in list(draft.nodes)]) > 0
