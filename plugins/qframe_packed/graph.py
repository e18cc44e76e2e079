"""The graph of a packed model: operations in order, each named by the layer it is from."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import attrs

from qframe.errors import DataError
from qframe_packed.fields import Integers, Store, Tensors
from qframe_packed.operations import OPERATIONS, Operation
from qframe_packed.values import LARGEST, Value

_MOST_NODES = 2**14
_TENSORS = range(1, 2**10)
_SHAPE = Integers(1, LARGEST, range(1, 8))


@attrs.frozen(eq=False)
class Node:
    """One operation, on the tensors of these indices.

    Args:
        operation: what is done.
        inputs: indices of tensors: those given to the model come first, then what each
            node returns, in order. A node reads only what is before it.
        name: the path of the layer that it is from.
    """

    operation: Operation
    inputs: tuple[int, ...]
    name: str = ""


@attrs.frozen(eq=False)
class Graph:
    """A model.

    Args:
        inputs: the shapes, without the batch, of the tensors that it takes.
        nodes: its operations, each after those that it reads from.
        outputs: the indices of the tensors that it returns.
    """

    inputs: tuple[tuple[int, ...], ...]
    nodes: tuple[Node, ...]
    outputs: tuple[int, ...]

    def values(self) -> list[Value]:
        """What is known of each tensor; raises `DataError` for a graph that is wrong."""
        found = [Value(shape) for shape in self.inputs]
        for node in self.nodes:
            arity = node.operation.arity
            with_many = len(node.inputs) > 1
            if len(node.inputs) != arity if arity else not with_many:
                raise DataError(f"{_place(node)} takes {arity or 'several'} tensors")
            if max(node.inputs) >= len(found):
                raise DataError(f"{_place(node)} reads a tensor that is not before it")
            try:
                found.append(node.operation.infer(*(found[i] for i in node.inputs)))
            except DataError as error:
                raise DataError(f"{_place(node)}: {error}") from error
        if max(self.outputs) >= len(found):
            raise DataError("the model returns a tensor that it does not have")
        return found

    def to_json(self, store: Store) -> dict[str, Any]:
        """The graph as JSON types; each tensor goes into `store`."""
        return {
            "inputs": [list(shape) for shape in self.inputs],
            "outputs": list(self.outputs),
            "nodes": [_to_json(node, store) for node in self.nodes],
        }

    @classmethod
    def from_json(cls, text: Any, tensors: Tensors) -> Graph:
        """The inverse; raises `DataError` for anything else."""
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


_INDICES = Integers(0, 2 * _MOST_NODES, _TENSORS)
_KEYS = ("operation", "inputs", "name")


def _place(node: Node) -> str:
    return f"the operation {node.operation.name} of {node.name!r}"


def _to_json(node: Node, store: Store) -> dict[str, Any]:
    found = dict(
        zip(_KEYS, (node.operation.name, list(node.inputs), node.name), strict=True)
    )
    for field in _fields(type(node.operation)):
        value, default = getattr(node.operation, field.name), field.default
        # An array has no default but None, and is not to be compared.
        if value is not default and (default in (None, attrs.NOTHING) or value != default):
            found[field.name] = field.metadata["codec"].write(value, store)
    return found


def _from_json(text: Any, tensors: Tensors) -> Node:
    if not isinstance(text, dict) or not set(_KEYS) <= set(text):
        raise DataError(f"a node has {', '.join(_KEYS)}")
    operation, inputs, name = (text[key] for key in _KEYS)
    if not isinstance(operation, str) or operation not in OPERATIONS:
        raise DataError(
            f"the operation {str(operation)[:40]!r} is unknown; it may come from a newer "
            "qframe"
        )
    if not isinstance(name, str) or len(name) > 1000:
        raise DataError("the name of a node is a short text")
    cls = OPERATIONS[operation]
    fields = {field.name: field for field in _fields(cls)}
    given = {key: value for key, value in text.items() if key not in _KEYS}
    needed = {key for key, field in fields.items() if field.default is attrs.NOTHING}
    where = f"the operation {operation} of {name[:80]!r}"
    if not needed <= set(given) <= set(fields):
        raise DataError(f"{where} has {', '.join(fields) or 'no arguments'}")
    arguments = {}
    for key, value in given.items():
        try:
            arguments[key] = fields[key].metadata["codec"].read(value, tensors)
        except DataError as error:
            raise DataError(f"{key} of {where}: {error}") from error
    read = _INDICES.read(inputs, tensors)
    return Node(cls(**arguments), read, name)  # type: ignore[arg-type]


def _fields(cls: type[Any]) -> Iterable[attrs.Attribute[Any]]:
    return attrs.fields(cls)
