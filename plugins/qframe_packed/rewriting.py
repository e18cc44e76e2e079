"""Lowering: the same model in fewer and cheaper operations.

Each rule looks at one node. `absorb`, `pool_after` and `reshape_after` change no result by
a single bit; `fold` rounds once where there were two roundings.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import numpy as np

from qframe_packed.graph import Graph, Node
from qframe_packed.operations import (
    Activation,
    Affine,
    MaxPool,
    Operation,
    Quantize,
    Reshape,
)
from qframe_packed.reference import run
from qframe_packed.thresholds import Domain, first
from qframe_packed.values import Value


class Draft:
    """A graph whose nodes have keys, so that they can be replaced."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self.values = dict(enumerate(graph.values()))
        self.nodes = dict(enumerate(graph.nodes, len(graph.inputs)))

    def maker(self, key: int, kind: type[Operation] | tuple[type[Operation], ...]) -> Any:
        """The node that returns this tensor, if it is of a kind; else None."""
        node = self.nodes.get(key)
        return node if node is not None and isinstance(node.operation, kind) else None

    def alone(self, key: int) -> bool:
        """Whether a single node reads a tensor, and the model does not return it."""
        read = [i for node in self.nodes.values() for i in node.inputs]
        return read.count(key) == 1 and key not in self._graph.outputs

    def put(self, key: int, operation: Operation, *inputs: int, name: str) -> None:
        """Have a tensor returned by another node."""
        self.nodes[key] = Node(operation, inputs, name)

    def add(self, operation: Operation, *inputs: int, name: str) -> int:
        """A new tensor."""
        key = max(self.nodes) + 1
        self.put(key, operation, *inputs, name=name)
        return key

    def graph(self) -> Graph:
        """The graph, in order, without what nothing leads to."""
        count = len(self._graph.inputs)
        order = {key: key for key in range(count)}
        waiting = list(reversed(self._graph.outputs))
        while waiting:
            key = waiting[-1]
            missing = [
                i
                for i in (() if key in order else self.nodes[key].inputs)
                if i not in order
            ]
            if missing:
                waiting += reversed(missing)
                continue
            waiting.pop()
            order.setdefault(key, len(order))
        nodes = tuple(
            attrs.evolve(
                self.nodes[key], inputs=tuple(order[i] for i in self.nodes[key].inputs)
            )
            for key in order
            if key >= count
        )
        outputs = tuple(order[key] for key in self._graph.outputs)
        return Graph(self._graph.inputs, nodes, outputs)


Rule = Callable[[Draft, int, Node], bool]

# What only rises, or only falls, in float32 as well.
_MONOTONE = ("hard_tanh", "relu")


def absorb(draft: Draft, key: int, node: Node) -> bool:
    """A threshold of ``f(x)`` is one of x: of batch norm, of scales, of a ReLU."""
    if not isinstance(node.operation, Quantize):
        return False
    before = draft.maker(node.inputs[0], (Affine, Activation))
    if before is None or not _is_monotone(before.operation):
        return False
    (source,) = before.inputs
    operation = composed(node.operation, before.operation, draft.values[source])
    draft.put(key, operation, source, name=node.name)
    return True


def _is_monotone(operation: Operation) -> bool:
    if isinstance(operation, Activation):
        # Below a negative threshold a ReLU is 0, and above it is negative.
        rises = operation.alpha >= 0 and operation.threshold >= 0
        return operation.function in _MONOTONE and rises
    return True


def composed(quantize: Quantize, before: Operation, value: Value) -> Quantize:
    """``quantize(before(x))`` as a quantization of x, equal for every x of its span."""
    channels = value.shape[-1]
    parts: list[Any] = [quantize.thresholds[0], quantize.direction]
    parts += [getattr(before, "scale", None), getattr(before, "shift", None)]
    common = not any(part is not None and np.ndim(part) for part in parts)
    shape = (len(quantize.thresholds), 1 if common else channels)
    domain = Domain.of(value.span)

    def steps(x: Any) -> Any:
        with np.errstate(over="ignore"):
            found = run(quantize, run(before, x))
        return (found - quantize.low) // quantize.step

    ends = domain.numbers(np.array([[domain.low], [domain.high]]))
    low, high = steps(np.broadcast_to(ends, (2, shape[1])))
    falls = high < low
    sign = np.where(falls, -1, 1).astype(np.int8)
    wanted = np.arange(1, shape[0] + 1)[:, None]
    # Keys of the negated numbers are the negated keys, so one domain holds both.
    both = attrs.evolve(
        domain,
        low=min(domain.low, -domain.high),
        high=max(domain.high, -domain.low),
    )
    inside = domain.numbers(np.array([domain.low, domain.high]))

    def reached(x: Any) -> Any:
        given = np.clip(x * sign.astype(x.dtype), *inside)
        return steps(given) >= wanted

    keys = first(reached, both, shape)
    # One beyond the numbers that there are stands for nothing, or for all.
    found = both.thresholds(keys)
    if common and not falls.any():
        return attrs.evolve(quantize, thresholds=found[:, 0], direction=None)
    found = np.ascontiguousarray(np.broadcast_to(found, (shape[0], channels)))
    direction = np.broadcast_to(sign, (channels,)).copy() if falls.any() else None
    return attrs.evolve(quantize, thresholds=found, direction=direction)


def pool_after(draft: Draft, key: int, node: Node) -> bool:
    """Pool bits and not floats: where a threshold is crossed downwards, their minimum."""
    if not isinstance(node.operation, Quantize):
        return False
    pool = draft.maker(node.inputs[0], MaxPool)
    if pool is None or pool.operation.direction is not None:
        return False
    if not draft.alone(node.inputs[0]):
        return False
    bits = draft.add(node.operation, *pool.inputs, name=node.name)
    direction = node.operation.direction
    draft.put(key, attrs.evolve(pool.operation, direction=direction), bits, name=pool.name)
    return True


def reshape_after(draft: Draft, key: int, node: Node) -> bool:
    """Reshape bits and not floats, where all channels have the same thresholds."""
    if not isinstance(node.operation, Quantize) or node.operation.thresholds.ndim > 1:
        return False
    reshape = draft.maker(node.inputs[0], Reshape)
    if reshape is None or node.operation.direction is not None:
        return False
    if not draft.alone(node.inputs[0]):
        return False
    bits = draft.add(node.operation, *reshape.inputs, name=node.name)
    draft.put(key, reshape.operation, bits, name=reshape.name)
    return True


def fold(draft: Draft, key: int, node: Node) -> bool:
    """Two affine operations are one: the scales of a convolution, and batch norm."""
    after = node.operation
    before = draft.maker(node.inputs[0], Affine)
    if not isinstance(after, Affine) or before is None or not draft.alone(node.inputs[0]):
        return False
    first_, shift = before.operation, after.shift
    if first_.shift is not None:
        moved = first_.shift.astype(np.float64)
        moved = moved if after.scale is None else moved * after.scale
        shift = moved if shift is None else moved + shift
    scales = [a.astype(np.float64) for a in (first_.scale, after.scale) if a is not None]
    scale = np.multiply(*scales) if len(scales) == 2 else next(iter(scales), None)
    operation = Affine(scale=_single(scale), shift=_single(shift))
    draft.put(key, operation, *before.inputs, name=node.name)
    return True


def _single(array: Any) -> Any:
    return None if array is None else np.asarray(array, np.float32)


RULES: tuple[Rule, ...] = (absorb, pool_after, reshape_after, fold)


def lowered(graph: Graph, rules: tuple[Rule, ...] = RULES) -> Graph:
    """The graph once no rule applies to it any more."""
    changed = True
    while changed:
        draft = Draft(graph)
        nodes = list(draft.nodes.items())
        changed = any(rule(draft, key, node) for rule in rules for key, node in nodes)
        graph = draft.graph()
    return graph
