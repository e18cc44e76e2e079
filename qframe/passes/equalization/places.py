"""The places of channels in a tensor."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import attrs
import numpy as np

from qframe.passes.weights import Channels


@attrs.frozen(eq=False)
class Place:
    """The channels along axes of a tensor.

    Args:
        axes: the axes, from 0, in their order.
        channels: the number of the channel at each position of these axes.
    """

    axes: tuple[int, ...]
    channels: Channels

    @classmethod
    def of(cls, axes: Sequence[int], channels: Channels) -> Place:
        """The place with axes in any order."""
        order = sorted(range(len(axes)), key=lambda index: axes[index])
        return cls(tuple(axes[i] for i in order), channels.transpose(order))

    def equals(self, other: Place) -> bool:
        """Return whether another place has the same channels along the same axes."""
        return self.axes == other.axes and np.array_equal(self.channels, other.channels)

    def fits(self, shapes: Iterable[Sequence[int | None]]) -> bool:
        """Return whether each of some shapes has all positions of the channels."""
        return all(
            len(shape) > axis and shape[axis] == size
            for shape in shapes
            for axis, size in zip(self.axes, self.channels.shape, strict=True)
        )


def joined(parts: Sequence[Channels], sizes: Sequence[int]) -> Channels:
    """The numbers of channels that several axes tell apart.

    Args:
        parts: for each axis the position along it of each entry of a weight, in shapes
            that broadcast to that of the weight.
        sizes: the sizes of the axes.
    """
    result = np.zeros((1,) * parts[0].ndim, dtype=np.intp)
    for part, size in zip(parts, sizes, strict=True):
        result = result * size + part
    return result
