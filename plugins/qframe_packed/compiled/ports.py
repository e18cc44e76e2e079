"""Inputs and outputs: kernels read and write them in the arrays of the caller."""

from __future__ import annotations

import math
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from qframe_packed.compiled.memory import Buffer, Memory

Array = NDArray[Any]

# To copy an array of fewer bytes is quicker than to find its address.
LEAST = 2**14


@attrs.define(eq=False)
class Port:
    """An input or output of a session.

    Args:
        memory: memory of the session.
        buffer: buffer of the tensor.
        movable: whether the records of kernels, and nothing else, have its address.
        shape: shape of a sample.
    """

    memory: Memory
    buffer: Buffer
    movable: bool
    shape: tuple[int, ...]
    _room: Array = attrs.field(init=False)
    # The part of it that has as many samples as the last array.
    _view: Array = attrs.field(init=False)
    _is_moved: bool = attrs.field(init=False, default=False)

    def __attrs_post_init__(self) -> None:
        self._room = self._view = self.memory.array(self.buffer, np.float32)

    def point(self, array: Array) -> None:
        """Let kernels use an array in the place of the buffer, if they can."""
        fits = array.nbytes >= LEAST and self.movable and _is_plain(array)
        if fits or self._is_moved:
            self.memory.move(self.buffer, int(array.ctypes.data) if fits else None)
            self._is_moved = fits

    def read(self, array: Array) -> None:
        """Let kernels read the numbers of an array."""
        self.point(array)
        if not self._is_moved:
            self._room_for(len(array))[...] = array

    def write(self, array: Array) -> None:
        """Write what kernels computed to the array to which they were pointed."""
        if not self._is_moved:
            array[...] = self._room_for(len(array))

    def keep(self, samples: int) -> Array:
        """Let kernels use the buffer, and return the part for a number of samples."""
        if self._is_moved:
            self.memory.move(self.buffer, None)
            self._is_moved = False
        return self._room_for(samples)

    def _room_for(self, samples: int) -> Array:
        shape = samples, *self.shape
        if self._view.shape != shape:
            self._view = self._room[: math.prod(shape)].reshape(shape)
        return self._view


def _is_plain(array: Array) -> bool:
    flags = array.flags
    return flags.c_contiguous and flags.aligned and array.dtype == np.float32
