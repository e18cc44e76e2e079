"""A whole model as one program: a table of what is done, in one call from Python."""

from __future__ import annotations

import enum
import hashlib
from pathlib import Path
from typing import Any

import numba
import numpy as np

from qframe_packed.compiled import images, multiplying, windows
from qframe_packed.compiled.addresses import integers_at
from qframe_packed.compiled.notices import noticed

# The integers of a row: a code, and what its kernel takes.
LENGTH = 32


class Code(enum.IntEnum):
    """The kernel of a row."""

    MULTIPLY = 0
    CHANGE = 1
    SPREAD = 2
    SURROUND = 3
    UNPACK = 4
    DEPTHWISE = 5
    POOL_FLOATS = 6
    POOL_BITS = 7
    MEAN = 8
    SOFTMAX = 9


_multiply, _change = multiplying.multiply, multiplying.change
_spread, _surround, _unpack = images.spread, images.surround, images.unpack
_depthwise, _mean, _softmax = windows.depthwise, windows.mean, windows.softmax
_pool_floats, _pool_bits = windows.pool_floats, windows.pool_bits


def _run(samples: int, table: Any) -> None:
    """Do what each row of an int64 table says, for so many samples."""
    for index in range(len(table)):
        code = table[index, 0]
        p = integers_at(table.ctypes.data + 8 * (LENGTH * index + 1))
        if code == Code.MULTIPLY:
            _multiply(samples, p)
        elif code == Code.CHANGE:
            _change(samples, p)
        elif code == Code.SPREAD:
            _spread(samples, p)
        elif code == Code.SURROUND:
            _surround(samples, p)
        elif code == Code.UNPACK:
            _unpack(samples, p)
        elif code == Code.DEPTHWISE:
            _depthwise(samples, p)
        elif code == Code.POOL_FLOATS:
            _pool_floats(samples, p)
        elif code == Code.POOL_BITS:
            _pool_bits(samples, p)
        elif code == Code.MEAN:
            _mean(samples, p)
        elif code == Code.SOFTMAX:
            _softmax(samples, p)


def digest(folder: Path) -> str:
    """What tells the kernels in a folder from those of another version."""
    found = hashlib.sha256()
    for path in sorted(folder.glob("*.py")):
        found.update(path.read_bytes())
    return found.hexdigest()[:16]


# Numba keeps what it compiles under this name, and asks no other file whether it changed.
_run.__qualname__ = f"run_{digest(Path(__file__).parent)}"
run = numba.njit(nogil=True, cache=True)(_run)


def prepare() -> None:
    """Compile what runs a program, or load it, if no program ran before."""
    if not run.signatures:
        with noticed("Compiling kernels for this processor, once"):
            run(0, np.zeros((0, LENGTH), np.int64))
