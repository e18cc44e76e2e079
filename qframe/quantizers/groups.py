"""Groups of numbers, one after the other in each channel, that share a scale."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray


@attrs.frozen
class Groups:
    """Which numbers of a tensor form a group.

    Args:
        axes: those that the groups run along, row by row. Numbers that differ in any other
            axis are never in one group.
        size: how many numbers are in a group; the last may have fewer.

    Example:
        >>> import numpy as np, qframe as qf
        >>> groups = qf.quantizers.Groups(axes=(0,), size=2)
        >>> groups.spread(np.array([[1.0, 2.0], [3.0, 4.0]]), (3, 2)).tolist()
        [[1.0, 3.0], [1.0, 3.0], [2.0, 4.0]]
    """

    axes: tuple[int, ...]
    size: int

    def count(self, shape: Sequence[int]) -> int:
        """How many groups a tensor has."""
        *others, numbers = self._rows(shape)
        return math.prod(others) * -(-numbers // self.size)

    def compact(self, spread: NDArray[Any]) -> NDArray[Any]:
        """What groups share, once for each.

        Args:
            spread: an array with the same number for all of a group; a scalar is left.

        Returns:
            An array of shape (sizes of the other axes, groups).
        """
        if spread.ndim == 0:
            return spread
        rows = spread.transpose(self.order(spread.ndim))
        compact: NDArray[Any] = rows.reshape(self._rows(spread.shape))[..., :: self.size]
        return compact

    def spread(self, compact: NDArray[Any], shape: Sequence[int]) -> NDArray[Any]:
        """What groups share, for each number of a tensor: the way back of `compact`."""
        if compact.ndim == 0:
            return compact
        order = self.order(len(shape))
        count = self._rows(shape)[-1]
        rows = np.repeat(compact, min(self.size, count), axis=-1)[..., :count]
        moved = rows.reshape([shape[axis] for axis in order])
        return moved.transpose(np.argsort(order))

    def order(self, rank: int) -> list[int]:
        """The axes of a tensor with those of the groups last."""
        return [*(axis for axis in range(rank) if axis not in self.axes), *self.axes]

    def _rows(self, shape: Sequence[int]) -> list[int]:
        """The sizes of the other axes, and how many numbers the groups of each share."""
        others = [size for axis, size in enumerate(shape) if axis not in self.axes]
        return [*others, math.prod(shape[axis] for axis in self.axes)]
