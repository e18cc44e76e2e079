"""A call of a layer, as far as shapes and bits go."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import attrs
from keras import tree

from qframe.models.precision import Bits

Shape = tuple[int | None, ...] | None


@attrs.frozen
class Tensor:
    """What is known of a tensor without its values; a shape of None: nothing."""

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
        arguments: its arguments by name, each a `Tensor` where Keras has a tensor;
            empty where nothing is known.
        outputs: the shapes that it returns.
        times: how often it happens for one sample; None where not known.
    """

    arguments: Mapping[str, Any] = attrs.field(factory=dict)
    outputs: tuple[Shape, ...] = (None,)
    times: int | None = 1

    @property
    def inputs(self) -> list[Tensor]:
        """The tensors of the first argument."""
        return tensors(next(iter(self.arguments.values()), None))

    @property
    def input(self) -> Tensor:
        """The first of `inputs`; an unknown tensor where there are none."""
        return next(iter(self.inputs), Tensor())

    def tensor(self, name: str) -> Tensor | None:
        """The tensor given for an argument."""
        return next(iter(tensors(self.arguments.get(name))), None)


def tensors(structure: Any) -> list[Tensor]:
    """The tensors of a nested structure."""
    return [leaf for leaf in tree.flatten(structure) if isinstance(leaf, Tensor)]


def multiply(*factors: int | None) -> int | None:
    """The product; None where a factor is not known."""
    known = [factor for factor in factors if factor is not None]
    return math.prod(known) if len(known) == len(factors) else None


def size(shape: Shape) -> int | None:
    """The number of elements; None where a dimension is not known."""
    return None if shape is None else multiply(*shape)
