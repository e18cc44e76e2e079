"""The graph of a packed model: the operations of a file, and their JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qframe.deployment.graph import graph, operations
from qframe.deployment.graph.fields import (
    IntegerField,
    KernelField,
    Store,
    Tensors,
    read_fields,
    written_fields,
)
from qframe.deployment.graph.graph import Node
from qframe.deployment.graph.operations import Operation
from qframe.deployment.graph.values import LARGEST, Value
from qframe.errors import DataError
from qframe_packed.packing import PackedTensor

__all__ = ["OPERATIONS", "Node", "PackedGraph"]

OPERATIONS: Mapping[str, type[Operation]] = {
    cls.name: cls
    for cls in (
        *(operations.Conv2D, operations.Conv2DTranspose, operations.Dense),
        *(operations.Affine, operations.Quantize, operations.Round),
        *(operations.MaxPool, operations.AveragePool),
        *(operations.GlobalPool, operations.Activation, operations.PReLU),
        *(operations.Merge, operations.Concatenate, operations.Reshape, operations.Pad),
        *(operations.Slice, operations.Transpose, operations.Repeat, operations.Resize),
        *(operations.Normalize, operations.Lookup, operations.Matmul),
        operations.Recurrence,
    )
}
_MOST_NODES = 2**14
_TENSORS = range(1, 2**10)
_SHAPE = IntegerField(1, LARGEST, range(1, 8))
_INDICES = IntegerField(0, 2 * _MOST_NODES, _TENSORS)
_KEYS = ("operation", "inputs", "name")
# Files of before it have none.
_EDGE = "edge"
_MOST_TEXT = 1000


class PackedGraph(graph.Graph):
    """A graph whose integers have a scale of 1, a zero point of 0 and at most 32 bits."""

    @staticmethod
    def infer(operation: Operation, *inputs: Value) -> Value:
        """The value of an operation; kernels pad only floats, and add in 32 bits."""
        if isinstance(operation, operations.Pad) and inputs[0].grid is not None:
            raise DataError("it takes floats, found integers")
        value = operation.infer(*inputs)
        if value.grid is not None:
            value.grid.check(32)
        return value

    def to_json(self, store: Store) -> dict[str, Any]:
        """The graph as JSON types; `store` takes each tensor."""
        return {
            "inputs": [list(shape) for shape in self.inputs],
            "outputs": list(self.outputs),
            "nodes": [_to_json(node, store) for node in self.nodes],
        }

    @classmethod
    def from_json(cls, text: Any, tensors: Tensors) -> PackedGraph:
        """The inverse of `to_json`; raises `DataError` for other contents."""
        if not isinstance(text, dict) or set(text) != {"inputs", "outputs", "nodes"}:
            raise DataError("a graph has inputs, outputs and nodes")
        if not all(isinstance(part, list) for part in text.values()):
            raise DataError("the parts of a graph are lists")
        if not 1 <= len(text["inputs"]) < 2**10 or len(text["nodes"]) > _MOST_NODES:
            raise DataError("a graph of so many parts is not read")
        shapes = tuple(_SHAPE.read(shape, tensors) for shape in text["inputs"])
        nodes = tuple(_from_json(node, tensors) for node in text["nodes"])
        outputs = _INDICES.read(text["outputs"], tensors)
        return cls(shapes, nodes, outputs)  # type: ignore[arg-type]


def _to_json(node: Node, store: Store) -> dict[str, Any]:
    entry: dict[str, Any] = {"operation": node.operation.name}
    entry |= {"inputs": list(node.inputs), "name": node.name}
    if node.edge:
        entry[_EDGE] = node.edge
    return entry | written_fields(
        node.operation, lambda codec, value: _write(codec, value, store)
    )


def _from_json(text: Any, tensors: Tensors) -> Node:
    if not isinstance(text, dict) or not set(_KEYS) <= set(text):
        raise DataError(f"a node has {', '.join(_KEYS)}")
    operation, inputs, name = (text[key] for key in _KEYS)
    if not isinstance(operation, str) or operation not in OPERATIONS:
        raise DataError(
            f"the operation {str(operation)[:40]!r} is unknown; it may come from a newer "
            "qframe"
        )
    edge = text.get(_EDGE, "")
    if any(not isinstance(part, str) or len(part) > _MOST_TEXT for part in (name, edge)):
        raise DataError("the name of a node, or of its edge, is a short text")
    cls = OPERATIONS[operation]
    values = {key: value for key, value in text.items() if key not in (*_KEYS, _EDGE)}
    try:
        arguments = read_fields(
            cls, values, lambda codec, value: _read(codec, value, tensors)
        )
    except DataError as error:
        label = f"the operation {operation} of {name[:80]!r}"
        raise DataError(f"{label}: {error}") from error
    indices = _INDICES.read(inputs, tensors)
    return Node(cls(**arguments), indices, name, edge)  # type: ignore[arg-type]


def _write(codec: Any, value: Any, store: Store) -> Any:
    return (
        value.to_json(store)
        if isinstance(value, PackedTensor)
        else codec.write(value, store)
    )


def _read(codec: Any, value: Any, tensors: Tensors) -> Any:
    if isinstance(codec, KernelField) and isinstance(value, dict):
        return PackedTensor.from_json(value, codec.rank, tensors)
    return codec.read(value, tensors)
