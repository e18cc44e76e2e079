"""The lowering of a deployment graph to a packed graph.

A packed graph has no scales: affine operations multiply its integers.
"""

from __future__ import annotations

import functools
from typing import Any

import attrs
import numpy as np

from qframe.deployment.graph import graph, operations
from qframe.deployment.graph.kernels import is_integer
from qframe.deployment.graph.operations import Affine, Operation
from qframe.deployment.graph.rewriting import rewrite
from qframe.deployment.graph.rounding import rounding_of
from qframe.deployment.graph.values import Value, is_one_positive
from qframe_packed.graph import Node, PackedGraph
from qframe_packed.packing import PackedTensor

# The most thresholds that are smaller than a rounding and what comes before it, for each
# channel: those of 1 and 2 bits.
FEW = 3


@attrs.frozen(eq=False)
class _Tensor:
    """A tensor of the packed graph.

    Args:
        index: its index in the graph.
        value: its shape and integers.
        scale: the factor from the numbers of the packed graph to those of the model.
        unscaled: the tensor before its scale; None if a shift was added too.
    """

    index: int
    value: Value
    scale: Any = 1.0
    unscaled: _Tensor | None = None

    @property
    def is_whole(self) -> bool:
        """Return whether its numbers are integers of one positive scale."""
        return self.value.grid is not None and is_one_positive(self.scale)


class _Emitter:
    """Adds operations of the current layer to a packed graph."""

    def __init__(self, inputs: tuple[tuple[int, ...], ...]) -> None:
        self._inputs = inputs
        self._nodes: list[Node] = []
        self.name = ""

    def add(self, operation: Operation, *tensors: _Tensor, scale: Any = 1.0) -> _Tensor:
        """Add an operation, whose result has a scale."""
        value = operation.infer(*(tensor.value for tensor in tensors))
        indices = tuple(tensor.index for tensor in tensors)
        self._nodes.append(Node(operation, indices, self.name))
        return _Tensor(len(self._inputs) + len(self._nodes) - 1, value, scale)

    def name_edge(self, x: _Tensor, edge: str) -> None:
        """Name the edge of the model that a tensor is; it keeps its first name."""
        place = x.index - len(self._inputs)
        if place >= 0 and not self._nodes[place].edge:
            self._nodes[place] = attrs.evolve(self._nodes[place], edge=edge)

    def scaled(self, x: _Tensor, shift: Any = None) -> _Tensor:
        """Multiply a tensor by its scale, and add a shift, as floats."""
        plain = np.ndim(x.scale) == 0 and x.scale == 1
        scale = None if plain else np.asarray(x.scale, np.float32)
        if plain and shift is None and x.value.grid is None:
            return x
        y = self.add(Affine(scale=scale, shift=shift), x)
        return y if shift is not None else attrs.evolve(y, unscaled=x)

    def graph(self, outputs: tuple[int, ...]) -> PackedGraph:
        """The packed graph that returns these tensors."""
        # Rewriting without rules leaves out the tensors that nothing reads.
        return rewrite(PackedGraph(self._inputs, tuple(self._nodes), outputs), ())


def to_packed(source: graph.Graph) -> PackedGraph:
    """The packed graph of a deployment graph, before any rewriting."""
    emitter = _Emitter(source.inputs)
    tensors = [_Tensor(i, Value(shape)) for i, shape in enumerate(source.inputs)]
    for node in source.nodes:
        emitter.name = node.name
        inputs = [tensors[i] for i in node.inputs]
        tensors.append(_emit(node.operation, emitter, inputs))
        emitter.name_edge(tensors[-1], node.edge)
    return emitter.graph(tuple(tensors[i].index for i in source.outputs))


@functools.singledispatch
def _emit(operation: Any, emitter: _Emitter, inputs: list[_Tensor]) -> _Tensor:
    """Add an operation that is the same in a packed graph."""
    return emitter.add(operation, *inputs, scale=inputs[0].scale)


@_emit.register
def _quantize(
    operation: operations.Quantize, emitter: _Emitter, inputs: list[_Tensor]
) -> _Tensor:
    plain = attrs.evolve(operation, scale=1.0, zero_point=0, rounding=None)
    return emitter.add(
        _round_of(plain, operation.scale) or plain, *inputs, scale=operation.scale
    )


def _round_of(quantize: operations.Quantize, scale: float) -> operations.Round | None:
    """The rounding that is proved equal to a quantizer; None for few thresholds too."""
    thresholds, low = quantize.thresholds, quantize.low
    if len(thresholds) <= FEW:
        return None
    # A quantizer may multiply its integers by another number than it divides by.
    distance = (thresholds[-1] - thresholds[0]) / (len(thresholds) - 1)
    for divisor in (scale, distance):
        rounding = rounding_of(thresholds, divisor, low, quantize.step)
        if rounding is not None and rounding.rule == "half_even":
            high = low + len(thresholds)
            return operations.Round(low, high, rounding.divisor, rounding.factor)
    return None


@_emit.register
def _dequantize(
    operation: operations.Dequantize, emitter: _Emitter, inputs: list[_Tensor]
) -> _Tensor:
    return emitter.scaled(*inputs)


@_emit.register
def _affine(operation: Affine, emitter: _Emitter, inputs: list[_Tensor]) -> _Tensor:
    (x,) = inputs
    if operation.scale is None and x.unscaled is not None:
        # One operation multiplies by the scale and adds the bias.
        return emitter.scaled(x.unscaled, operation.shift)
    return emitter.add(operation, x)


@_emit.register
def _lookup(
    operation: operations.Lookup, emitter: _Emitter, inputs: list[_Tensor]
) -> _Tensor:
    kernel = operation.kernel
    if not is_integer(kernel):
        return emitter.add(operation, *inputs)
    packed = attrs.evolve(operation, kernel=PackedTensor.of(kernel.integers()))
    return emitter.add(packed, *inputs, scale=float(kernel.scale))


@_emit.register
def _recurrence(
    operation: operations.Recurrence, emitter: _Emitter, inputs: list[_Tensor]
) -> _Tensor:
    kernel = operation.kernel
    if is_integer(kernel):
        operation = attrs.evolve(operation, kernel=PackedTensor.of(kernel.integers()))
    return emitter.add(operation, *inputs)


@_emit.register(operations.Conv2D)
@_emit.register(operations.Conv2DTranspose)
@_emit.register(operations.Dense)
def _product(operation: Any, emitter: _Emitter, inputs: list[_Tensor]) -> _Tensor:
    (x,) = inputs
    kernel = operation.kernel
    if is_integer(kernel):
        operation = attrs.evolve(operation, kernel=PackedTensor.of(kernel.integers()))
        scale = np.float64(x.scale) * kernel.scale
    else:
        # The product reads integers, and the sums get their scale.
        if x.unscaled is not None and x.unscaled.is_whole:
            x = x.unscaled
        scale = np.float64(x.scale)
        if getattr(operation, "pad", 0) and x.value.grid is not None:
            operation = attrs.evolve(operation, pad=float(round(operation.pad / x.scale)))
    scale = scale if np.ndim(scale) else float(scale)
    sums = emitter.add(operation, x, scale=scale)
    return sums if sums.value.grid is not None else emitter.scaled(sums)
