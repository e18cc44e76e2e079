"""Buffers of tensors, and the memory that many of them use one after another."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from qframe_packed.compiled.functions import Function

_ALIGNMENT = 64
# A tile may read a whole register at the end of a buffer.
_SLACK = 64


@attrs.define(eq=False)
class Buffer:
    """Memory of a tensor, from the step that writes it to the last one that reads it.

    Args:
        size: bytes of one sample.
        fixed: bytes for any number of samples.
        over: a buffer whose memory this one takes over. The step that writes this one is
            the last to read that one, and does so number by number.
    """

    size: int
    fixed: int = 0
    first: int = 2**31
    last: int = -1
    over: Buffer | None = None

    def use(self, step: int) -> Buffer:
        """Keep the buffer in this step too, and return it."""
        self.first, self.last = min(self.first, step), max(self.last, step)
        return self


def length_of(buffer: Buffer, samples: int) -> int:
    """Bytes that a buffer takes for a number of samples."""
    size = buffer.fixed + buffer.size * samples + _SLACK
    return -(-size // _ALIGNMENT) * _ALIGNMENT


class Memory:
    """Memory of one session."""

    def __init__(self, offsets: dict[Buffer, int], size: int, samples: int) -> None:
        self.samples = samples
        self._offsets = offsets
        self._bytes = aligned((size,), np.uint8)
        start = int(self._bytes.ctypes.data)
        self._addresses = {buffer: start + place for buffer, place in offsets.items()}
        self._kept: list[NDArray[Any]] = []
        self._places: dict[Buffer, list[tuple[NDArray[Any], int]]] = defaultdict(list)

    def array(self, buffer: Buffer, dtype: Any = np.uint8) -> NDArray[Any]:
        """Flat contents of a buffer."""
        start = self._offsets[buffer]
        size = buffer.fixed + buffer.size * self.samples
        return self._bytes[start : start + size].view(dtype)

    def keep(self, array: NDArray[Any]) -> int:
        """Address of an array, which lives as long as the memory."""
        self._kept.append(array)
        return int(array.ctypes.data)

    def beside(self) -> Memory:
        """The same memory for another thread, which has other buffers to work in."""
        places, sizes = dict[Buffer, int](), defaultdict[int, int](int)
        for buffer in self._addresses:
            if buffer.fixed:
                # Those of the next kernel take the same room.
                places[buffer] = sizes[buffer.first]
                sizes[buffer.first] += length_of(buffer, self.samples)
        start = self.keep(aligned((max(sizes.values(), default=0),), np.uint8))
        other = copy.copy(self)
        other._addresses = self._addresses | {b: start + p for b, p in places.items()}
        return other

    def mark(self, buffer: Buffer, records: NDArray[Any], place: int) -> None:
        """Let a number among records follow the address of a buffer."""
        self._places[buffer].append((records, place))

    def move(self, buffer: Buffer, address: int | None) -> None:
        """Change the address of a buffer in all records; None stands for its own."""
        address = self._addresses[buffer] if address is None else address
        for records, place in self._places[buffer]:
            records[place] = address

    def numbers(self, values: Iterable[Any]) -> list[Any]:
        """Values, with an address in the place of each buffer, array and function."""
        addresses = self._addresses
        return [
            self.keep(value)
            if isinstance(value, np.ndarray)
            else addresses[value]
            if isinstance(value, Buffer)
            else value.address
            if isinstance(value, Function)
            else value
            for value in values
        ]


def aligned(shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    """Zeros that begin at a multiple of the size of the longest register."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    memory = np.zeros(size + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    return memory[start : start + size].view(dtype).reshape(shape)
