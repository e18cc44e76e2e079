"""Groups of consecutive numbers in a channel that share a scale."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray


@attrs.frozen
class Groups:
    """A partition of a tensor into groups of numbers that share a scale.

    Args:
        axes: the axes that the groups run along, row by row. Numbers that differ in any
            other axis are never in one group.
        size: the number of members of a group; the last may have fewer.

    Example:
        >>> import numpy as np, qframe as qf
        >>> groups = qf.quantizers.Groups(axes=(0,), size=2)
        >>> groups.spread(np.array([[1.0, 2.0], [3.0, 4.0]]), (3, 2)).tolist()
        [[1.0, 3.0], [1.0, 3.0], [2.0, 4.0]]
    """

    axes: tuple[int, ...]
    size: int

    def count(self, shape: Sequence[int]) -> int:
        """The number of groups of a tensor."""
        *others, numbers = self._rows(shape)
        return math.prod(others) * -(-numbers // self.size)

    def compact(self, spread: NDArray[Any]) -> NDArray[Any]:
        """One number for each group.

        Args:
            spread: an array with the same number for all members of a group, or a scalar.

        Returns:
            An array of shape (sizes of the other axes, groups), or the scalar.
        """
        if spread.ndim == 0:
            return spread
        rows = spread.transpose(self.order(spread.ndim)).reshape(self._rows(spread.shape))
        return np.asarray(rows[..., :: self.size])

    def spread(self, compact: Any, shape: Sequence[int], xp: Any = np) -> Any:
        """The number of its group for each member: the inverse of `compact`.

        Args:
            compact: an array of shape (sizes of the other axes, groups), or a scalar.
            shape: the shape of the tensor.
            xp: NumPy, or `keras.ops` for a tensor.
        """
        if len(compact.shape) == 0:
            return compact
        order = self.order(len(shape))
        count = self._rows(shape)[-1]
        rows = xp.repeat(compact, min(self.size, count), axis=-1)[..., :count]
        moved = xp.reshape(rows, [shape[axis] for axis in order])
        return xp.transpose(moved, [int(i) for i in np.argsort(order)])

    def order(self, rank: int) -> list[int]:
        """The axes of a tensor, those of the groups last."""
        return [*(axis for axis in range(rank) if axis not in self.axes), *self.axes]

    def _rows(self, shape: Sequence[int]) -> list[int]:
        """The sizes of the other axes, and the product of those of the groups."""
        others = [size for axis, size in enumerate(shape) if axis not in self.axes]
        return [*others, math.prod(shape[axis] for axis in self.axes)]
