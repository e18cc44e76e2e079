"""From the operations of a deployment graph to the operators of a LiteRT model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
import numpy as np

from qframe.deployment.graph.graph import Node
from qframe.deployment.graph.values import Grid, Value
from qframe_litert.grids import StoredGrid
from qframe_litert.model import (
    TYPES,
    LiteModel,
    Operator,
    Options,
    Quantization,
    Tensor,
)


@attrs.frozen
class Settings:
    """How a model is written.

    Args:
        activations: the type of activations, ``"int8"`` or ``"int16"``.
        weights: the type of weights, ``"int8"`` or ``"int4"``.
        batch: the number of samples; None for any.
        inputs: ``"integer"``, or ``"float"`` for a QUANTIZE at the beginning.
        outputs: ``"integer"``, or ``"float"`` for a DEQUANTIZE at the end.
        floats: ``"refuse"``, or ``"keep"`` for float operators of what has no grid.
    """

    activations: str = "int8"
    weights: str = "int8"
    batch: int | None = None
    inputs: str = "integer"
    outputs: str = "integer"
    floats: str = "refuse"


@attrs.frozen
class Written:
    """A tensor of the file that operators pass on.

    Args:
        index: its index in the file.
        value: its shape without the batch, and its grid as the graph has it.
    """

    index: int
    value: Value

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one sample."""
        return self.value.shape

    @property
    def grid(self) -> Any:
        """The grid of the integers; None for floats and indices."""
        return self.value.grid


class Writer:
    """Adds tensors and operators to a LiteRT model.

    Tensors are named by the current layer and what they are in it.

    Args:
        settings: how the model is written.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.model = LiteModel()
        self.name = ""
        self._real: dict[int, Written] = {}

    def name_result(self, result: Written, node: Node) -> None:
        """Name the result of a node by its edge of the Keras model."""
        name = node.edge or f"{node.name}/{node.operation.name}"
        tensors = self.model.tensors
        tensors[result.index] = attrs.evolve(tensors[result.index], name=name)

    def stored(self, grid: Grid | None) -> StoredGrid:
        """The integers of a grid in the type of activations; raises `QFrameError`."""
        assert grid is not None  # noqa: S101
        return StoredGrid.of(grid, self.settings.activations)

    def activation(self, kind: str, value: Value, dtype: str = "") -> Written:
        """Add a tensor that an operator returns, or that the model reads.

        Args:
            kind: what it is in the current layer.
            value: its shape and grid.
            dtype: that of indices. Default: by the grid.
        """
        quantization = None
        if value.grid is not None:
            stored = self.stored(value.grid)
            quantization = Quantization(np.float32(stored.scale), stored.zero_point)
            dtype = dtype or self.settings.activations
        tensor = Tensor(
            f"{self.name}/{kind}",
            (self.settings.batch, *value.shape),
            dtype or "float32",
            quantization,
        )
        return Written(self.model.add_tensor(tensor), value)

    def constant(self, kind: str, array: Any, dtype: str = "int32") -> int:
        """Add a constant of the current layer, such as the axes of a mean."""
        return self.model.constant(f"{self.name}/{kind}", array, dtype)

    def integers(self, kind: str, integers: Any, grid: Grid | None) -> int:
        """Add constant integers of the file, on the grid of a tensor."""
        stored, dtype = self.stored(grid), self.settings.activations
        data, name = np.asarray(integers, dtype), f"{self.name}/{kind}"
        quantization = Quantization(np.float32(stored.scale), stored.zero_point)
        return self.model.add_tensor(Tensor(name, data.shape, dtype, quantization, data))

    def weights(
        self,
        kind: str,
        array: Any,
        dtype: str,
        scale: Any,
        shape: Any = None,
        axis: int = 0,
    ) -> int:
        """Add integers of a kernel or of a bias; returns the index of the tensor."""
        name = f"{self.name}/{kind}"
        quantization = Quantization(np.asarray(scale, np.float32), 0, axis)
        tensor = Tensor(name, shape or array.shape, dtype, quantization, array)
        return self.model.add_tensor(tensor)

    def operator(
        self,
        code: str,
        inputs: tuple[int, ...],
        output: int,
        options: Options | None = None,
        version: int | None = None,
    ) -> None:
        """Add an operator with one output; its version is that of what it computes."""
        if version is None:
            ends = {self.model.tensors[index].dtype for index in (inputs[0], output)}
            kind = "float32" if ends == {"float32"} else self.settings.activations
            version = VERSIONS[code][("int8", "int16", "float32").index(kind)]
        self.model.operators.append(Operator(code, version, inputs, (output,), options))

    def emit(
        self,
        code: str,
        inputs: tuple[int, ...],
        value: Value,
        options: Options | None = None,
    ) -> Written:
        """Add an operator whose result is a new tensor; returns it."""
        edge = self.activation(code.lower(), value)
        self.operator(code, inputs, edge.index, options)
        return edge

    def parts(
        self,
        code: str,
        x: Written,
        shape: tuple[int, ...],
        count: int,
        fields: Mapping[str, Any],
        axis: int | None = None,
    ) -> list[Written]:
        """Add an operator that returns several floats of one shape; returns them.

        Args:
            code: the operator, ``"SPLIT"`` or ``"UNPACK"``.
            x: what it reads.
            shape: that of each part, without the batch.
            count: the number of parts.
            fields: those of its options.
            axis: a constant that it takes before `x`. Default None: it takes none.
        """
        edges = [self.activation(code.lower(), Value(shape)) for _ in range(count)]
        inputs = (x.index,) if axis is None else (self.constant("axis", axis), x.index)
        outputs = tuple(edge.index for edge in edges)
        options = Options(f"{code.capitalize()}Options", fields)
        version = VERSIONS[code][2]
        self.model.operators.append(Operator(code, version, inputs, outputs, options))
        return edges

    def cast(self, kind: str, x: Written, value: Value) -> Written:
        """Add an operator that returns the same integers in another type.

        Args:
            kind: what the result is in the current layer.
            x: integers, or floats, which are cut.
            value: the result; integers of 32 bits where it has no grid.
        """
        out = self.activation(kind, value, "" if value.grid is not None else "int32")
        before, after = (TYPES[self.model.tensors[i].dtype] for i in (x.index, out.index))
        options = Options("CastOptions", {"InDataType": before, "OutDataType": after})
        self.operator("CAST", (x.index,), out.index, options)
        return out

    def real(self, x: Written) -> Written:
        """The real numbers of a tensor, which are computed once for all readers."""
        if x.grid is None:
            return x
        if x.index not in self._real:
            options = Options("DequantizeOptions")
            real = self.emit("DEQUANTIZE", (x.index,), Value(x.shape), options)
            self._real[x.index] = real
        return self._real[x.index]


# The version in which a built-in operator got integers of 8 bits, of 16, and floats.
VERSIONS: Mapping[str, tuple[int, int, int]] = {
    "ABS": (1, 1, 1),
    "ADD": (2, 3, 1),
    "AVERAGE_POOL_2D": (2, 3, 1),
    "BATCH_MATMUL": (2, 3, 1),
    "CAST": (1, 1, 1),
    "CONCATENATION": (2, 3, 1),
    "CONV_2D": (3, 4, 1),
    "DEPTHWISE_CONV_2D": (3, 5, 2),
    "DEQUANTIZE": (2, 3, 1),
    "DIV": (1, 1, 1),
    "ELU": (1, 1, 1),
    "EXP": (1, 1, 1),
    "FLOOR_DIV": (1, 1, 1),
    "FULLY_CONNECTED": (12, 7, 5),
    "GATHER": (2, 4, 1),
    "GELU": (1, 1, 1),
    "GREATER": (1, 1, 1),
    "GREATER_EQUAL": (1, 1, 1),
    "HARD_SWISH": (1, 1, 1),
    "LEAKY_RELU": (1, 1, 1),
    "LOG": (1, 1, 1),
    "LOGISTIC": (2, 3, 1),
    "MAXIMUM": (2, 3, 1),
    "MAX_POOL_2D": (2, 3, 1),
    "MEAN": (2, 3, 1),
    "MINIMUM": (2, 3, 1),
    "MUL": (2, 4, 1),
    "NEG": (1, 1, 1),
    "PACK": (2, 3, 1),
    "PAD": (2, 3, 1),
    "PADV2": (2, 2, 1),
    "PRELU": (1, 1, 1),
    "QUANTIZE": (1, 2, 1),
    "REDUCE_MAX": (2, 3, 1),
    "RELU": (1, 1, 1),
    "RELU6": (1, 1, 1),
    "RELU_N1_TO_1": (1, 1, 1),
    "RESHAPE": (1, 1, 1),
    "RESIZE_BILINEAR": (3, 4, 3),
    "RESIZE_NEAREST_NEIGHBOR": (3, 4, 3),
    "RSQRT": (1, 1, 1),
    "SELECT_V2": (1, 1, 1),
    "SHAPE": (1, 1, 1),
    "SOFTMAX": (2, 3, 1),
    "SPLIT": (2, 4, 1),
    "SQRT": (1, 1, 1),
    "SQUARE": (1, 1, 1),
    "STRIDED_SLICE": (2, 4, 1),
    "SUB": (2, 5, 1),
    "TANH": (2, 3, 1),
    "TRANSPOSE": (2, 5, 1),
    "TRANSPOSE_CONV": (3, 3, 3),
    "UNPACK": (2, 4, 1),
}
