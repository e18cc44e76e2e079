"""The shapes and bits of the inputs and outputs of a call of a layer."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import attrs
from keras import tree

from qframe.models.precision import Bits

Shape = tuple[int | None, ...] | None


@attrs.frozen
class TensorSpec:
    """The shape and the bits of a tensor; a shape of None is unknown."""

    shape: Shape = None
    bits: Bits = None

    @property
    def sample(self) -> Shape:
        """The shape without the batch."""
        return None if self.shape is None else self.shape[1:]


@attrs.frozen
class Call:
    """A call of a layer.

    Args:
        arguments: its arguments by name, with a `TensorSpec` for each tensor; empty where
            they are not known.
        outputs: the shapes of its outputs.
        times: the number of such calls for one sample; None where not known.
    """

    arguments: Mapping[str, Any] = attrs.field(factory=dict)
    outputs: tuple[Shape, ...] = (None,)
    times: int | None = 1

    @property
    def inputs(self) -> list[TensorSpec]:
        """The tensors of the first argument."""
        return tensors(next(iter(self.arguments.values()), None))

    @property
    def input(self) -> TensorSpec:
        """The first of `inputs`; an unknown tensor without inputs."""
        return next(iter(self.inputs), TensorSpec())

    def tensor(self, name: str) -> TensorSpec | None:
        """Return the first tensor of an argument."""
        return next(iter(tensors(self.arguments.get(name))), None)


def tensors(structure: Any) -> list[TensorSpec]:
    """Return the tensors of a nested structure."""
    return [leaf for leaf in tree.flatten(structure) if isinstance(leaf, TensorSpec)]


def multiply(*factors: int | None) -> int | None:
    """Return the product; None where a factor is not known."""
    known = [factor for factor in factors if factor is not None]
    return math.prod(known) if len(known) == len(factors) else None


def size(shape: Shape) -> int | None:
    """Return the number of elements; None where a dimension is not known."""
    return None if shape is None else multiply(*shape)
