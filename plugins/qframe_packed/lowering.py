"""From a deployment graph to that of a packed model, operation by operation.

A packed graph has no scales: its integers are multiplied by affine operations.
"""

from __future__ import annotations

import functools
from typing import Any

import attrs
import numpy as np

from qframe.deployment.graph import graph, operations
from qframe.deployment.graph.kernels import is_integer
from qframe.deployment.graph.operations import Affine, Operation
from qframe.deployment.graph.rewriting import rewritten
from qframe.deployment.graph.values import Value, is_one_positive
from qframe_packed.graph import Graph, Node
from qframe_packed.packing import Packed


@attrs.frozen(eq=False)
class _Tensor:
    """A tensor of the packed graph.

    Args:
        index: its index there.
        value: its shape and integers.
        scale: the numbers of the model are so many times those of the packed graph.
        unscaled: the tensor before its scale; None where a shift was added too.
    """

    index: int
    value: Value
    scale: Any = 1.0
    unscaled: _Tensor | None = None

    @property
    def is_whole(self) -> bool:
        """Whether its numbers are integers of one positive scale."""
        return self.value.grid is not None and is_one_positive(self.scale)


class _Emitter:
    """Adds operations to a packed graph, in the name of the current layer."""

    def __init__(self, inputs: tuple[tuple[int, ...], ...]) -> None:
        self._inputs = inputs
        self._nodes: list[Node] = []
        self.name = ""

    def add(self, operation: Operation, *tensors: _Tensor, scale: Any = 1.0) -> _Tensor:
        """The result of an operation, whose numbers have a scale."""
        value = operation.infer(*(tensor.value for tensor in tensors))
        indices = tuple(tensor.index for tensor in tensors)
        self._nodes.append(Node(operation, indices, self.name))
        return _Tensor(len(self._inputs) + len(self._nodes) - 1, value, scale)

    def scaled(self, x: _Tensor, shift: Any = None) -> _Tensor:
        """A tensor times its scale, and plus a shift, as floats."""
        plain = np.ndim(x.scale) == 0 and x.scale == 1
        scale = None if plain else np.asarray(x.scale, np.float32)
        if plain and shift is None and x.value.grid is None:
            return x
        y = self.add(Affine(scale=scale, shift=shift), x)
        return y if shift is not None else attrs.evolve(y, unscaled=x)

    def graph(self, outputs: tuple[int, ...]) -> Graph:
        """The packed graph that returns these tensors."""
        # Without a rule to apply, what nothing reads is left out.
        return rewritten(Graph(self._inputs, tuple(self._nodes), outputs), ())


def packed(source: graph.Graph) -> Graph:
    """The packed graph of a deployment graph, before any rewriting."""
    emitter = _Emitter(source.inputs)
    tensors = [_Tensor(i, Value(shape)) for i, shape in enumerate(source.inputs)]
    for node in source.nodes:
        emitter.name = node.name
        inputs = [tensors[i] for i in node.inputs]
        tensors.append(_lowered(node.operation, emitter, inputs))
    return emitter.graph(tuple(tensors[i].index for i in source.outputs))


@functools.singledispatch
def _lowered(operation: Any, emitter: _Emitter, inputs: list[_Tensor]) -> _Tensor:
    """An operation that is the same in a packed graph."""
    return emitter.add(operation, *inputs, scale=inputs[0].scale)


@_lowered.register
def _quantize(
    operation: operations.Quantize, emitter: _Emitter, inputs: list[_Tensor]
) -> _Tensor:
    plain = attrs.evolve(operation, scale=1.0, zero_point=0, rounding=None)
    return emitter.add(plain, *inputs, scale=operation.scale)


@_lowered.register
def _dequantize(
    operation: operations.Dequantize, emitter: _Emitter, inputs: list[_Tensor]
) -> _Tensor:
    return emitter.scaled(*inputs)


@_lowered.register
def _affine(operation: Affine, emitter: _Emitter, inputs: list[_Tensor]) -> _Tensor:
    (x,) = inputs
    if operation.scale is None and x.unscaled is not None:
        # A bias: both are one operation.
        return emitter.scaled(x.unscaled, operation.shift)
    return emitter.add(operation, x)


@_lowered.register(operations.Conv2D)
@_lowered.register(operations.Dense)
def _product(operation: Any, emitter: _Emitter, inputs: list[_Tensor]) -> _Tensor:
    (x,) = inputs
    kernel = operation.kernel
    if is_integer(kernel):
        operation = attrs.evolve(operation, kernel=Packed.of(kernel.integers()))
        scale = np.float64(x.scale) * kernel.scale
    else:
        # One scale is left to the sums, so that the product reads the integers.
        if x.unscaled is not None and x.unscaled.is_whole:
            x = x.unscaled
        scale = np.float64(x.scale)
        if getattr(operation, "pad", 0) and x.value.grid is not None:
            operation = attrs.evolve(operation, pad=float(round(operation.pad / x.scale)))
    scale = scale if np.ndim(scale) else float(scale)
    sums = emitter.add(operation, x, scale=scale)
    return sums if sums.value.grid is not None else emitter.scaled(sums)
