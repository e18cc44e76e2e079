"""How the tensors of a graph are read, which decides the form in which they are kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import attrs

from qframe.deployment.graph import operations
from qframe.deployment.graph.values import Value
from qframe_packed.compiled.codes import fits
from qframe_packed.compiled.fallback import is_large
from qframe_packed.compiled.operands import kind_of
from qframe_packed.compiled.tiles import BITS, CODES
from qframe_packed.graph import Node, PackedGraph
from qframe_packed.packing import PackedTensor

# Operations whose result has the numbers, and the form, of what they read.
_MOVERS = operations.MaxPool, operations.Reshape
# Those that move codes.
_MOVERS_OF_CODES = *_MOVERS, operations.Concatenate


@attrs.frozen
class Reading:
    """How tensors are read, by their indices.

    Args:
        bits: read by products of bits.
        codes: read by products of codes, and by no product of bits.
        large: integers that may exceed float32, and are kept as int32.
        terms: affine functions of codes that are nothing but one of two terms of a sum.
        single: read by one operation, and not returned.
    """

    bits: frozenset[int]
    codes: frozenset[int]
    large: frozenset[int]
    terms: frozenset[int]
    single: frozenset[int]

    @classmethod
    def of(cls, graph: PackedGraph, values: Sequence[Value]) -> Reading:
        """How a graph reads its tensors."""
        first = len(graph.inputs)
        codes, bits, integers = set[int](), set[int](), set[int]()
        for index, node in reversed([*enumerate(graph.nodes, first)]):
            moves, kind = isinstance(node.operation, _MOVERS), _kind(node, values)
            passes = isinstance(node.operation, _MOVERS_OF_CODES) and index in codes
            if kind is CODES or passes:
                codes.update(node.inputs)
            if kind is BITS or (moves and index in bits):
                bits.update(node.inputs)
            converts = isinstance(node.operation, operations.Affine)
            if not converts and (index in integers or not moves):
                integers.update(node.inputs)
        large = set[int]()
        for index, node in enumerate(graph.nodes, first):
            moves = isinstance(node.operation, _MOVERS)
            # Sums of codes are integers until they are read, and may be rounded then.
            rounds = _kind(node, values) is CODES or (
                moves and not large.intersection(node.inputs)
            )
            if is_large(values[index]) and not (rounds and index not in integers):
                large.add(index)
        codes -= bits
        reads = Counter([*graph.outputs, *(i for node in graph.nodes for i in node.inputs)])
        single = {i for i, count in reads.items() if count == 1} - {*graph.outputs}
        terms = _terms(graph, values, codes, large, single)
        return cls(*map(frozenset, (bits, codes, large, terms, single)))


def _terms(
    graph: PackedGraph,
    values: Sequence[Value],
    codes: set[int],
    large: set[int],
    single: set[int],
) -> set[int]:
    """Affine functions of codes that are nothing but one of two terms of a sum."""
    nodes, first = graph.nodes, len(graph.inputs)
    terms = set[int]()
    for node in nodes:
        operation: Any = node.operation
        alike = len({values[i].shape for i in node.inputs}) == 1
        adds = isinstance(operation, operations.Merge) and operation.function == "add"
        if adds and alike and len(node.inputs) == 2 and large.isdisjoint(node.inputs):
            inside = [i for i in node.inputs if i >= first and i in single]
            found = [i for i in inside if _is_affine_of(nodes[i - first], codes)]
            if len(found) == 1:
                terms.update(found)
    return terms


def _is_affine_of(node: Node, codes: set[int]) -> bool:
    """Return whether a node multiplies codes, and adds to them, by one number each."""
    operation: Any = node.operation
    if not isinstance(operation, operations.Affine) or node.inputs[0] not in codes:
        return False
    parts = operation.scale, operation.shift
    return all(part is None or part.size == 1 for part in parts)


def _kind(node: Node, values: Sequence[Value]) -> Any:
    """The kind of tiles of a product; None of anything else."""
    operation: Any = node.operation
    value = values[node.inputs[0]]
    if not isinstance(operation, (operations.Conv2D, operations.Dense)):
        return None
    if is_depthwise(operation, value):
        return CODES if multiplies_codes(operation, value) else None
    return kind_of(operation, value)


def multiplies_codes(operation: Any, value: Value) -> bool:
    """Return whether a depthwise convolution of a tensor is one of codes."""
    integers = isinstance(operation.kernel, PackedTensor)
    return integers and value.span is not None and fits(operation, value.span)


def is_depthwise(operation: Any, value: Value) -> bool:
    """Return whether a product is a depthwise convolution."""
    groups = getattr(operation, "groups", 1)
    return groups > 1 and (groups, groups) == (value.shape[-1], operation.kernel.shape[0])
