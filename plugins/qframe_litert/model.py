"""A LiteRT model before it is written: tensors, operators, and what they share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
# The numbers of types in the schema, for options that name one.
TYPES: Mapping[str, int] = {"int8": 9, "int32": 2, "float32": 0}


@attrs.frozen(eq=False)
class Quantization:
    """The real numbers of integers: ``scale * (integer - zero_point)``.

    Args:
        scale: one number, or one for each index of an axis, as float32.
        zero_point: the integer of 0.0. Default 0.
        axis: the axis of the scales. Default 0.
    """

    scale: Any
    zero_point: int = 0
    axis: int = 0


@attrs.frozen(eq=False)
class Tensor:
    """A tensor of a file.

    Args:
        name: the path of the layer that returns it, or of its weight.
        shape: its shape; that of an activation begins with the batch, None for any.
        dtype: ``"int8"``, ``"int4"``, ``"int16"``, ``"int32"``, ``"int64"``, ``"uint8"``,
            ``"bool"`` or ``"float32"``.
        quantization: None for floats, indices and shapes.
        data: the numbers of a constant, packed if they are int4; None for an activation.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: str
    quantization: Quantization | None = None
    data: Array | None = None


@attrs.frozen(eq=False)
class Options:
    """The settings of an operator.

    Args:
        table: the name of their table in the schema, such as ``"Conv2DOptions"``.
        fields: the fields that are set.
    """

    table: str
    fields: Mapping[str, Any] = attrs.field(factory=dict)


@attrs.frozen(eq=False)
class Operator:
    """An operator of a file.

    Args:
        code: the name of a built-in operator, such as ``"CONV_2D"``.
        version: the version of its definition, which a runtime has to know.
        inputs: indices of tensors; -1 for one that is left out.
        outputs: indices of tensors.
        options: None for an operator without settings.
    """

    code: str
    version: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Options | None = None


@attrs.define(eq=False)
class LiteModel:
    """A model of one subgraph, under construction."""

    tensors: list[Tensor] = attrs.field(factory=list)
    operators: list[Operator] = attrs.field(factory=list)
    inputs: list[int] = attrs.field(factory=list)
    outputs: list[int] = attrs.field(factory=list)

    def add_tensor(self, tensor: Tensor) -> int:
        """Add a tensor; returns its index."""
        self.tensors.append(tensor)
        return len(self.tensors) - 1

    def constant(self, name: str, array: Any, dtype: str = "int32") -> int:
        """Add a constant without a scale; returns its index."""
        data = np.asarray(array, dtype)
        return self.add_tensor(Tensor(name, data.shape, dtype, data=data))
