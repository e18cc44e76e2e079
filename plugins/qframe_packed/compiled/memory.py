"""Where tensors are while a model runs: many in the same place, one after another."""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

_ALIGNMENT = 64
# A tile may read a whole register where less was asked for.
_SLACK = 64


@attrs.define(eq=False)
class Slot:
    """Room for a tensor, from the step that writes it to the last one that reads it.

    Args:
        size: the bytes of one sample.
        fixed: the bytes that are needed for any number of samples.
        over: a slot in whose place it is; what is there is read for the last time in the
            step that writes this, and number by number.
    """

    size: int
    fixed: int = 0
    first: int = 2**31
    last: int = -1
    over: Slot | None = None

    def used(self, step: int) -> Slot:
        """The slot; it is needed in this step."""
        self.first, self.last = min(self.first, step), max(self.last, step)
        return self


def length_of(slot: Slot, samples: int) -> int:
    """The bytes that a slot takes for so many samples."""
    size = slot.fixed + slot.size * samples + _SLACK
    return -(-size // _ALIGNMENT) * _ALIGNMENT


class Memory:
    """The memory of one run."""

    def __init__(self, offsets: dict[Slot, int], size: int, samples: int) -> None:
        self.samples = samples
        self._offsets = offsets
        self._bytes = aligned((size,), np.uint8)
        self._kept: list[list[NDArray[Any]]] = []

    @property
    def nbytes(self) -> int:
        """Its bytes."""
        return int(self._bytes.nbytes)

    def array(self, slot: Slot, dtype: Any = np.uint8) -> NDArray[Any]:
        """What is in a slot, flat."""
        start = self._offsets[slot]
        size = slot.fixed + slot.size * self.samples
        return self._bytes[start : start + size].view(dtype)

    def kept(self, arrays: list[NDArray[Any]]) -> list[NDArray[Any]]:
        """Arrays whose addresses are in use for as long as this is."""
        self._kept.append(arrays)
        return arrays

    def address(self, slot: Slot) -> int:
        """Where a slot begins."""
        return int(self._bytes.ctypes.data) + self._offsets[slot]


def aligned(shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    """Zeros that begin at a multiple of the size of the longest register."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    room = np.zeros(size + _ALIGNMENT, np.uint8)
    start = -room.ctypes.data % _ALIGNMENT
    return room[start : start + size].view(dtype).reshape(shape)
