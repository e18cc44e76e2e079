"""The graph of a model under construction, operation by operation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs

from qframe.deployment.graph.edges import EdgeNames
from qframe.deployment.graph.graph import Graph, Node
from qframe.deployment.graph.operations import Dequantize, Operation, Quantize
from qframe.deployment.graph.values import Value
from qframe.deployment.lowering.activations import quantize_of
from qframe.quantizers import Quantizer


@attrs.frozen
class ExportTarget:
    """The requirements of an exporter.

    Args:
        name: the name of the target, for errors.
        floats: the dtype of kernels that are not quantized. Default ``"float32"``.
        levels: the most levels of a quantizer of activations. Default 2^16.
        sum_bits: the bits in which products of integers are added. Default 32.
        portable: whether batch normalization has the same numbers on every backend.
            Otherwise they are those of the backend, which differ in the last bit.
            Default False.
    """

    name: str
    floats: str = "float32"
    levels: int = 2**16
    sum_bits: int = 32
    portable: bool = False


@attrs.frozen
class Traced:
    """A tensor of the graph under construction.

    Args:
        index: its index in the graph.
        value: its shape and grid.
    """

    index: int
    value: Value

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one sample."""
        return self.value.shape


class Tracer:
    """Adds operations of the current layer to a graph.

    Args:
        target: the requirements of the exporter.
        lowering_of: returns the lowering of a layer that is a part of another.
    """

    def __init__(
        self, target: ExportTarget, lowering_of: Callable[[Any], Lowering] | None = None
    ) -> None:
        self.target, self._lowering_of = target, lowering_of
        self.path = ""
        self._call: Callable[[], tuple[dict[str, int], dict[str, Any]]] = lambda: ({}, {})
        self._inputs: list[tuple[int, ...]] = []
        self._nodes: list[Node] = []
        self._quantizers: dict[Any, tuple[Any, Quantize]] = {}
        self._names = EdgeNames()

    def input(self, shape: tuple[int, ...]) -> Traced:
        """Add an input of the model, before any operation."""
        self._inputs.append(shape)
        return Traced(len(self._inputs) - 1, Value(shape))

    def add(self, operation: Operation, *tensors: Traced) -> Traced:
        """Add an operation; returns its result."""
        value = operation.infer(*(tensor.value for tensor in tensors))
        if value.grid is not None:
            value.grid.check(self.target.sum_bits)
        indices = tuple(tensor.index for tensor in tensors)
        self._nodes.append(Node(operation, indices, self.path))
        return Traced(len(self._inputs) + len(self._nodes) - 1, value)

    def real(self, tensor: Traced) -> Traced:
        """Convert a tensor to floats."""
        grid = tensor.value.grid
        if grid is None:
            return tensor
        real = self.add(Dequantize(scale=grid.scale), tensor)
        node = self._node(tensor)
        # Rewrites may drop the integers, and keep their real numbers.
        self._set_edge(real, "" if node is None else node.edge)
        return real

    def begin(self, path: str, call: Any) -> None:
        """Begin a layer, with what returns the names of its inputs and its arguments."""
        self.path, self._call = path, call

    def part(self, layer: Any, *inputs: Traced) -> Traced:
        """Add a layer that is a part of the current one."""
        assert self._lowering_of is not None  # noqa: S101
        # The names of the arguments are those of the layer around it.
        around, self._call = self._call, lambda: ({}, {})
        try:
            return self._lowering_of(layer)(self, layer, [*inputs])
        finally:
            self._call = around

    def call_of_layer(self) -> tuple[dict[str, int], dict[str, Any]]:
        """The places of named inputs among all, and the other arguments of the call."""
        return self._call()

    def add_quantizer(self, quantizer: Any, tensor: Traced) -> Traced:
        """Add a quantizer of activations."""
        if isinstance(quantizer, Quantizer) and quantizer.traits.tag:
            return tensor
        return self.add(self._quantize_of(quantizer), self.real(tensor))

    def add_input_quantizer(self, quantizer: Any, tensor: Traced) -> Traced:
        """Add the input quantizer of the current layer."""
        quantized = self.add_quantizer(quantizer, tensor)
        self._set_edge(quantized, self._names.of_input(self.path))
        return quantized

    def name_output(self, tensor: Traced) -> None:
        """Name the output of the current layer; a tensor keeps its first name."""
        self._set_edge(tensor, self._names.of_output(self.path))

    def _set_edge(self, tensor: Traced, edge: str) -> None:
        node = self._node(tensor)
        if node is not None and not node.edge:
            place = tensor.index - len(self._inputs)
            self._nodes[place] = attrs.evolve(node, edge=edge)

    def _node(self, tensor: Traced) -> Node | None:
        """The node that computes a tensor; None for an input of the model."""
        place = tensor.index - len(self._inputs)
        return self._nodes[place] if place >= 0 else None

    def _quantize_of(self, quantizer: Any) -> Quantize:
        # Without state the parameters suffice. The object is kept so that its id stays.
        key: Any = id(quantizer)
        if isinstance(quantizer, Quantizer) and not quantizer.weights:
            key = type(quantizer), repr(quantizer.parameters)
        if key not in self._quantizers:
            self._quantizers[key] = quantizer, quantize_of(quantizer, self.target.levels)
        return self._quantizers[key][1]

    def placeholder(self, shape: tuple[int, ...]) -> Traced:
        """The output of a refused layer, so that later layers are checked too."""
        return Traced(0, Value(shape))

    def graph(self, outputs: list[Traced]) -> Graph:
        """The graph that returns these tensors, as floats."""
        real = [self.real(tensor).index for tensor in outputs]
        return Graph(tuple(self._inputs), tuple(self._nodes), tuple(real))


# From a layer and its inputs to its output.
Lowering = Callable[[Tracer, Any, list[Traced]], Traced]
