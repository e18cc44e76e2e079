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
    """

    size: int
    fixed: int = 0
    first: int = 2**31
    last: int = -1

    def used(self, step: int) -> Slot:
        """The slot; it is needed in this step."""
        self.first, self.last = min(self.first, step), max(self.last, step)
        return self

    def meets(self, other: Slot) -> bool:
        return self.first <= other.last and other.first <= self.last


def laid_out(slots: list[Slot], samples: int) -> tuple[dict[Slot, int], int]:
    """The offset of each slot for so many samples, and the bytes of all."""
    offsets: dict[Slot, int] = {}
    length = {}
    for slot in slots:
        size = slot.fixed + slot.size * samples + _SLACK
        length[slot] = -(-size // _ALIGNMENT) * _ALIGNMENT
    for slot in sorted(slots, key=lambda s: -s.size):
        taken = sorted((offsets[s], length[s]) for s in offsets if s.meets(slot))
        at = 0
        for offset, size in taken:
            if at + length[slot] <= offset:
                break
            at = max(at, offset + size)
        offsets[slot] = at
    return offsets, max((offsets[s] + length[s] for s in slots), default=0)


class Memory:
    """The memory of one run."""

    def __init__(self, slots: list[Slot], samples: int) -> None:
        self.samples = samples
        self._offsets, size = laid_out(slots, samples)
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
