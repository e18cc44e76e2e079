"""Rows of a matrix that are looked up, and quantized before that."""

from __future__ import annotations

from typing import Any

from qframe.deployment.graph.fused import Fused
from qframe.deployment.graph.graph import Node
from qframe.deployment.graph.operations import (
    Activation,
    Affine,
    Dequantize,
    Lookup,
    Merge,
    Quantize,
)
from qframe.deployment.graph.reference import run
from qframe.deployment.graph.rewriting import Draft


def quantize_rows(draft: Draft, key: int, node: Node) -> bool:
    """Look up quantized rows instead of quantizing the rows that are looked up."""
    if not isinstance(node.operation, Quantize):
        return False
    found = _rows_of(draft, node.inputs[0])
    if found is None:
        return False
    lookup, rows = found
    fused = Fused(Lookup(kernel=rows), (None,), quantize=node.operation)
    draft.set_node(key, fused, *lookup.inputs, name=lookup.name)
    return True


def _rows_of(draft: Draft, key: int) -> Any:
    """The lookup that returns real numbers, with its matrix of them; else None."""
    node = draft.nodes.get(key)
    if node is None:
        return None
    operation = node.operation
    if isinstance(operation, Lookup) and draft.values[key].grid is None:
        return node, operation.kernel
    if isinstance(operation, Dequantize):
        integers = draft.producer(node.inputs[0], Lookup)
        if integers is None:
            return None
        return integers, run(operation, integers.operation.kernel.integers())
    if isinstance(operation, (Activation, Affine)):
        # They compute each row from itself.
        found = _rows_of(draft, node.inputs[0])
        return found and (found[0], run(operation, found[1]))
    if isinstance(operation, Merge) and operation.function == "multiply":
        # Rows of integers, and a scale for each of them.
        parts = [_rows_of(draft, i) for i in node.inputs]
        if None in parts or len({lookup.inputs for lookup, _ in parts}) > 1:
            return None
        return parts[0][0], run(operation, *(rows for _, rows in parts))
    return None
