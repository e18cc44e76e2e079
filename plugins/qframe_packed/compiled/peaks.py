"""The most products of each kind that this processor makes, in registers alone."""

from __future__ import annotations

import functools
import threading
import time
from typing import Any

import numba
import numpy as np
from llvmlite import ir

from qframe_packed.compiled.functions import Function, function
from qframe_packed.compiled.kinds import Kind
from qframe_packed.compiled.memory import aligned
from qframe_packed.compiled.processor import FLOATS, IS_ARM
from qframe_packed.compiled.vectors import at, emitter, integer, loop

# Registers of sums, each of which waits for itself only; the rest has the factors.
_SUMS = 16 if FLOATS == 16 or IS_ARM else 10
_TIMES = 30_000
_REPEATS = 30
# Bytes of the longest register.
_ROOM = 64
_LOCK = threading.Lock()


def peak_of(kind: Kind) -> float:
    """Products of numbers, or of bits, in a second: the most of some attempts."""
    # Two threads would each make the function of a kind, and slow each other down.
    with _LOCK:
        return _measured(kind)


@functools.cache
def _measured(kind: Kind) -> float:
    run = _function_of(kind).compiled.ctypes
    memory = aligned((_ROOM * (1 + _SUMS),), np.uint8)
    seconds = []
    for _ in range(_REPEATS):
        start = time.perf_counter()
        run(_TIMES, memory.ctypes.data)
        seconds.append(time.perf_counter() - start)
    return _SUMS * _TIMES * kind.products / min(seconds)


def _function_of(kind: Kind) -> Function:
    """The function that multiplies a number of times, and uses some memory."""

    def emit(b: Any, times: Any, memory: Any) -> None:
        item = np.dtype(kind.item)
        element = ir.FloatType() if item.kind == "f" else ir.IntType(8 * item.itemsize)
        # Zero, which LLVM does not know.
        factor = kind.factor(b, b.load(at(b, memory, 0, element)))
        weights, *_ = kind.weights(b, ir.Constant(kind.vector, None))

        def multiply(index: Any, *sums: Any) -> tuple[Any, ...]:
            # The weights are the sums, so that nothing can be computed before the loop.
            return tuple(kind.add(b, s, factor, _as(b, s, weights)) for s in sums)

        starts = tuple(_constant(kind.vector, i) for i in range(_SUMS))
        results = loop(b, integer(0), times, 1, starts, multiply)
        for i, result in enumerate(results, 1):
            b.store(result, at(b, memory, i * _ROOM, kind.vector), align=_ROOM)

    emit.__qualname__ = f"{kind.name}_{kind.lanes}"
    return function(emitter(emit), numba.int64, numba.int64)


def _as(b: Any, value: Any, other: Any) -> Any:
    """The same register in the form of another, or of several."""
    if isinstance(other, tuple):
        return tuple(_as(b, value, part) for part in other)
    return b.bitcast(value, other.type)


def _constant(vector: Any, value: int) -> Any:
    return ir.Constant(vector, [vector.element(value)] * vector.count)
