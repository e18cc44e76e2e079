"""From a deployment graph to a LiteRT model: the table of all operations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from qframe.deployment.graph import operations as op
from qframe.deployment.graph.fused import Fused, unfused
from qframe.deployment.graph.graph import Graph, Node
from qframe.deployment.graph.kernels import is_integer
from qframe.deployment.graph.values import Value
from qframe.deployment.lowering.refusals import Refusals
from qframe.errors import ExportError, QFrameError
from qframe_litert import (
    averaging,
    contracting,
    elementwise,
    floats,
    merging,
    moving,
    products,
    transposed,
)
from qframe_litert.epilogues import Epilogue
from qframe_litert.model import LiteModel
from qframe_litert.writer import Settings, Writer, Written

# What a fused node computes, and an operation that only moves integers.
FUSED: Mapping[type, Callable[..., Written]] = {
    op.Activation: elementwise.activation,
    op.Affine: elementwise.affine,
    op.AveragePool: averaging.average_pool,
    op.Conv2D: products.convolution,
    op.Conv2DTranspose: transposed.transposed,
    op.Dense: products.dense,
    op.GlobalPool: averaging.global_average,
    op.Lookup: moving.rows,
    op.Matmul: contracting.matmul,
    op.Merge: merging.merge,
    op.PReLU: merging.prelu,
    op.Resize: averaging.resize,
}
MOVING: Mapping[type, Callable[..., Written]] = {
    op.Concatenate: moving.concatenate,
    op.GlobalPool: moving.global_max,
    op.Lookup: moving.rows,
    op.MaxPool: moving.max_pool,
    op.Pad: moving.pad,
    op.Repeat: moving.repeat,
    op.Reshape: moving.reshape,
    op.Slice: moving.chosen,
    op.Transpose: moving.transpose,
}
# What is compared with a threshold before anything is rounded, by sums or by a table.
_THRESHOLDS = (
    *(op.Activation, op.Affine, op.AveragePool, op.Conv2D, op.Conv2DTranspose, op.Dense),
    *(op.Lookup, op.PReLU),
)


class Conversion:
    """Writes the nodes of a graph, in order.

    Args:
        graph: a graph that `qframe.deployment.graph.fusing.fuse` returned.
        settings: how it is written.
    """

    def __init__(self, graph: Graph, settings: Settings) -> None:
        self._graph = graph
        self._values = graph.values()
        self._writer = Writer(settings)
        self._refusals = Refusals("litert")
        self._edges: dict[int, Written] = {}
        self._float_layers: dict[str, None] = {}

    @property
    def float_layers(self) -> list[str]:
        """The paths of the layers that `model` wrote in float32, in order."""
        return list(self._float_layers)

    def model(self) -> LiteModel:
        """The model; raises `ExportError`, which names all layers that are refused."""
        self._check_ends()
        for index in range(len(self._graph.inputs)):
            self._read_input(index)
        for index, node in enumerate(self._graph.nodes, len(self._graph.inputs)):
            self._writer.name = node.name
            before = len(self._writer.model.tensors)
            try:
                result = self._edges[index] = self._write(index, node)
                # What follows a refused layer reads a tensor that is not there.
                if before <= result.index < len(self._writer.model.tensors):
                    self._writer.name_result(result, node)
            except QFrameError as error:
                self._refusals.add(node.name, unfused(node.operation), error)
                self._edges[index] = Written(0, self._values[index])
        self._refusals.check()
        self._writer.model.outputs = [self._output(index) for index in self._graph.outputs]
        return self._writer.model

    def _check_ends(self) -> None:
        """Raise `ExportError` for an input that nothing reads, or that is an output."""
        read = {index for node in self._graph.nodes for index in node.inputs}
        for index in range(len(self._graph.inputs)):
            if index in self._graph.outputs:
                raise ExportError(
                    f"the model returns its input {index} as it is, which a file of "
                    "integers cannot. Build the model without that output. Nothing was "
                    "written."
                )
            if index not in read:
                raise ExportError(
                    f"nothing reads the input {index} of the model, and the file would "
                    "lack it. Build the model without it. Nothing was written."
                )

    def _output(self, index: int) -> int:
        """The tensor that the model returns: integers, or their real numbers."""
        edge = self._edges[index]
        if self._writer.settings.outputs == "integer" or edge.value.grid is None:
            return edge.index
        self._writer.name = self._graph.nodes[index - len(self._graph.inputs)].name
        return self._writer.real(edge).index

    def _read_input(self, index: int) -> None:
        """Add an input of the model: the integers of its quantizer, or indices."""
        readers = [
            (i, node)
            for i, node in enumerate(self._graph.nodes, len(self._graph.inputs))
            if index in node.inputs
        ]
        place, node = readers[0]
        self._writer.name = node.name
        try:
            kinds = {type(unfused(node.operation)) for _, node in readers}
            if kinds == {op.Lookup}:
                value = Value(self._graph.inputs[index])
                edge = self._writer.activation("input", value, "int32")
            elif self._writer.settings.inputs == "float" or (
                self._writer.settings.floats == "keep"
                and (kinds != {op.Quantize} or len(readers) > 1)
            ):
                edge = self._writer.activation("input", Value(self._graph.inputs[index]))
            elif kinds == {op.Quantize} and len(readers) == 1:
                _check_levels(self._values[place].grid)
                edge = self._writer.activation("input", self._values[place])
            else:
                raise QFrameError(
                    "several quantizers read this input. Quantize it once, by a quantizer "
                    "layer after keras.Input, or write inputs='float'"
                )
            self._writer.name_result(edge, node)
        except QFrameError as error:
            self._refusals.add(node.name, node.operation, error)
            edge = Written(0, self._values[place])
        self._edges[index] = edge
        self._writer.model.inputs.append(edge.index)

    def _write(self, index: int, node: Node) -> Written:
        operation, value = node.operation, self._values[index]
        inputs = [self._edges[i] for i in node.inputs]
        if isinstance(operation, op.Dequantize):
            return inputs[0]
        if isinstance(operation, op.Quantize):
            (source,) = node.inputs
            return self._quantize(operation, source, value)
        reason = ""
        if isinstance(operation, Fused):
            _check_quantizer(operation.quantize)
            reason = self._two_levels(operation)
        table = FUSED if isinstance(operation, Fused) else MOVING
        convert = table.get(type(unfused(operation)))
        indices = isinstance(unfused(operation), op.Lookup)
        kernel = getattr(unfused(operation), "kernel", None)
        whole = is_integer(kernel) and all(x.grid is not None for x in inputs)
        if (
            convert is not None
            and value.grid is not None
            and (whole or indices)
            and not reason
        ):
            return convert(self._writer, operation, *inputs, value)
        if self._writer.settings.floats == "refuse":
            raise QFrameError(reason or "the runtime has no operator for it")
        result = floats.write(self._writer, operation, inputs, value)
        self._float_layers[node.name] = None
        return result

    def _two_levels(self, fused: Fused) -> str:
        """Why a result of two levels would be wrong, as the runtime rounds; "" if right."""
        if fused.quantize is None or len(fused.quantize.thresholds) > 1:
            return ""
        operation = fused.operation
        softmax = isinstance(operation, op.Activation) and operation.function == "softmax"
        if self._writer.settings.activations != "int8":
            return (
                "it returns two levels, for which the runtime has no operators of 16 bits. "
                "Write activations=8"
            )
        if isinstance(operation, _THRESHOLDS) and not softmax:
            return ""
        return (
            "it returns two levels, and the runtime's operator for it rounds. Put a "
            "quantizer of more levels, such as 'integer', between the two, or write "
            "floats='keep'"
        )

    def _quantize(self, operation: op.Quantize, source: int, value: Value) -> Written:
        """Write a quantizer of a tensor with several readers, or of an input."""
        _check_quantizer(operation)
        x = self._edges[source]
        if x.grid is None:
            return floats.quantize(self._writer, operation, x, value)
        if source < len(self._graph.inputs):
            # Whoever runs the file rounds to all integers of the type.
            return Epilogue.of(self._writer, None, value, fuses=False).finish(
                self._writer, x
            )
        other = Fused(op.Affine(), (x.grid.scale,), quantize=operation)
        reason = self._two_levels(other)
        if reason:
            raise QFrameError(reason)
        return elementwise.affine(self._writer, other, x, value)


def _check_levels(grid: Any) -> None:
    """Raise `QFrameError` for an input of two levels, to which no runtime rounds."""
    if grid.span.count == 2:
        raise QFrameError(
            "it quantizes an input of the model to two levels, and what runs a file rounds "
            "to neighboring integers. Write inputs='float'"
        )


def _check_quantizer(quantize: Any) -> None:
    """Raise `QFrameError` for a quantizer that the runtime's rounding does not match."""
    two_levels = quantize is not None and len(quantize.thresholds) == 1
    if quantize is not None and quantize.rounding is None and not two_levels:
        raise QFrameError(
            "its quantizer does not round to the nearest integer, and the runtime does. "
            "Take one that does, such as 'integer'"
        )
