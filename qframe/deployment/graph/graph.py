"""The graph of a model: its operations in order, named by their layers."""

from __future__ import annotations

import attrs

from qframe.deployment.graph.operations import Operation
from qframe.deployment.graph.values import Value
from qframe.errors import DataError


@attrs.frozen(eq=False)
class Node:
    """An operation with its inputs and its layer.

    Args:
        operation: the operation.
        inputs: indices of tensors: the inputs of the model come first, then the results of
            the nodes, in order. A node reads only tensors before it.
        name: the path of its layer.
        edge: the edge of the model that it computes, as `qframe.deployment.graph.edges`
            names it; "" for a tensor within a layer.
    """

    operation: Operation
    inputs: tuple[int, ...]
    name: str = ""
    edge: str = ""

    def __str__(self) -> str:
        return f"the operation {self.operation.name} of {self.name!r}"


@attrs.frozen(eq=False)
class Graph:
    """A model.

    Args:
        inputs: the shapes of the inputs, without the batch.
        nodes: the operations, each after those that it reads from.
        outputs: the indices of the outputs.
    """

    inputs: tuple[tuple[int, ...], ...]
    nodes: tuple[Node, ...]
    outputs: tuple[int, ...]

    def values(self) -> list[Value]:
        """The shape and grid of each tensor; raises `DataError` for an invalid graph."""
        values = [Value(shape) for shape in self.inputs]
        for node in self.nodes:
            arity = node.operation.arity
            if len(node.inputs) != arity if arity else len(node.inputs) < 2:
                raise DataError(f"{node} takes {arity or 'several'} tensors")
            if max(node.inputs) >= len(values):
                raise DataError(f"{node} reads a tensor that is not before it")
            try:
                values.append(self.infer(node.operation, *(values[i] for i in node.inputs)))
            except DataError as error:
                raise DataError(f"{node}: {error}") from error
        if max(self.outputs) >= len(values):
            raise DataError("the model returns a tensor that it does not have")
        return values

    @staticmethod
    def infer(operation: Operation, *inputs: Value) -> Value:
        """The value of an operation; a target may refuse more than the operation does."""
        return operation.infer(*inputs)
