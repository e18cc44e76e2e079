"""Arrays before memory that may not be touched, which ends the process that does so."""

import ctypes
import math
import mmap
import sys

import numpy as np

_NOTHING = 0


def guarded(shape, values=None):
    """An array of float32 that ends where such memory begins; with values, read-only."""
    count = math.prod(shape)
    size = -(-max(4 * count, 1) // mmap.PAGESIZE) * mmap.PAGESIZE
    memory = mmap.mmap(-1, size + mmap.PAGESIZE)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    array = np.frombuffer(memory, np.float32, count, size - 4 * count).reshape(shape)
    _protect(start + size, mmap.PAGESIZE, _NOTHING)
    if values is not None:
        array[...] = values
        array.flags.writeable = False
        _protect(start, size, mmap.PROT_READ)
    return array


def _protect(start, size, access):
    if sys.platform == "win32":
        return
    done = ctypes.CDLL(None, use_errno=True).mprotect(
        ctypes.c_void_p(start), ctypes.c_size_t(size), access
    )
    assert done == 0, ctypes.get_errno()
