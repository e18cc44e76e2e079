"""The grids of tensors in the types of a file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from qframe.deployment.graph.values import Grid
from qframe.errors import QFrameError

Array = NDArray[Any]

ENDS: Mapping[str, tuple[int, int]] = {
    "int8": (-(2**7), 2**7 - 1),
    "int16": (-(2**15), 2**15 - 1),
}


@attrs.frozen
class StoredGrid:
    """The integers of a file: ``scale * (integer - zero_point)``.

    Args:
        scale: the real number of one step.
        zero_point: the integer of 0.0.
        factor: the steps in the file of a step of the graph. It is 1, except for two
            levels, which are as far apart as the type allows so that sums saturate to
            them. Default 1.
    """

    scale: float
    zero_point: int
    factor: int = 1

    @classmethod
    def of(cls, grid: Grid, dtype: str) -> StoredGrid:
        """The integers of a grid in a type.

        Raises:
            QFrameError: the type does not have them.
        """
        low, high = ENDS[dtype]
        span, scale = grid.span, float(grid.scale)
        if span.count == 2 and dtype == "int8":
            return _two_levels(span.low, span.high, scale)
        if span.step != 1:
            raise QFrameError(
                f"its integers are {span.step} apart, from {span.low} to {span.high}, and "
                f"those of {dtype} are neighbors"
            )
        if span.count > high - low + 1:
            raise QFrameError(
                f"it has {span.count} levels, and {dtype} has {high - low + 1}. Quantize "
                "it to fewer bits, or write litert(activations=16) for up to 16"
            )
        if dtype == "int16":
            if span.low < low or span.high > high:
                raise QFrameError(
                    f"its integers reach from {span.low} to {span.high}, and those of "
                    "int16 have their zero point at 0. Make its quantizer symmetric"
                )
            return cls(scale, 0)
        # What is below the smallest integer saturates.
        return cls(scale, low - span.low)

    def store(self, steps: Any) -> Array:
        """The integers in the file of integers that are counted from the zero point."""
        return np.asarray(steps) * self.factor + self.zero_point


def _two_levels(low: int, high: int, scale: float) -> StoredGrid:
    least, most = ENDS["int8"]
    if low == -high:
        return StoredGrid(scale * high / most, 0, most // high)
    if low == 0:
        return StoredGrid(scale * high / (most - least), least, (most - least) // high)
    raise QFrameError(
        f"its two levels are {low * scale:g} and {high * scale:g}, and those of the target "
        "are 0 and another number, or a number and its negative"
    )
