"""The calls of a model in one list, with those of the models in it."""

from __future__ import annotations

import collections
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from qframe import keras_internals
from qframe.layers.roles import Role, role_of


@attrs.frozen(eq=False)
class Step:
    """A call of a layer or an operator.

    Args:
        operation: the layer or the operator of `keras.ops`.
        path: its name after those of the models around it, joined by ``/``.
        role: its role in an integer runtime.
        inputs: the numbers of the tensors that it reads.
        outputs: the numbers of those that it returns.
        node: the call in Keras.
    """

    operation: Any
    path: str
    role: Role
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    node: Any

    @property
    def arguments(self) -> tuple[Any, ...]:
        """The positional arguments in Keras."""
        return tuple(self.node.arguments.args)


@attrs.frozen(eq=False)
class Flow:
    """The calls in a model; tensors are numbers.

    Args:
        steps: the calls, each after those that it depends on.
        inputs: the inputs of the model.
        outputs: its outputs.
        floats: the tensors of floats.
    """

    steps: tuple[Step, ...]
    inputs: tuple[int, ...]
    outputs: frozenset[int]
    floats: frozenset[int]
    makers: Mapping[int, Step] = attrs.field(init=False)
    readers: Mapping[int, Sequence[Step]] = attrs.field(init=False)

    @makers.default
    def _makers(self) -> Mapping[int, Step]:
        return {tensor: step for step in self.steps for tensor in step.outputs}

    @readers.default
    def _readers(self) -> Mapping[int, Sequence[Step]]:
        readers = collections.defaultdict(list)
        for step in self.steps:
            for tensor in dict.fromkeys(step.inputs):
                readers[tensor].append(step)
        return readers

    def single_reader(self, tensor: int) -> Step | None:
        """The only call that reads a tensor; None for several, or for an output."""
        readers = self.readers[tensor]
        return readers[0] if len(readers) == 1 and tensor not in self.outputs else None


def flow_of(model: Any) -> Flow | None:
    """The calls in a functional or sequential model; None where its call is code."""
    function = keras_internals.graph_of(model)
    if function is None:
        return None
    builder = _Builder()
    inputs = tuple(builder.new(tensor) for tensor in function.inputs)
    outputs = builder.add(function, inputs, "")
    return Flow(tuple(builder.steps), inputs, frozenset(outputs), frozenset(builder.floats))


class _Builder:
    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.floats: set[int] = set()
        self._count = 0

    def new(self, tensor: Any) -> int:
        """The number of another tensor."""
        self._count += 1
        if "float" in str(tensor.dtype):
            self.floats.add(self._count)
        return self._count

    def add(self, function: Any, inputs: Sequence[int], prefix: str) -> tuple[int, ...]:
        """Add the calls of a graph; returns its outputs."""
        known = dict(zip(map(id, function.inputs), inputs, strict=True))
        for node in keras_internals.nodes(function):
            if node.is_input:
                continue
            operation, path = node.operation, f"{prefix}{node.operation.name}"
            read = tuple(known[id(t)] for t in node.arguments.keras_tensors)
            inner = keras_internals.graph_of(operation)
            if inner is not None and len(inner.inputs) == len(read):
                outputs = self.add(inner, read, f"{path}/")
            else:
                outputs = tuple(map(self.new, node.outputs))
                role = role_of(operation, len(read))
                self.steps.append(Step(operation, path, role, read, outputs, node))
            known |= dict(zip(map(id, node.outputs), outputs, strict=True))
        return tuple(known[id(tensor)] for tensor in function.outputs)
