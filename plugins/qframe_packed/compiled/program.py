"""The compiled program: it runs a table of kernels in one call from Python.

One thread runs it alone, or several run it together. These take the work of a kernel in
chunks, and wait for each other before the next one. Nothing waits for a thread that has
not taken a chunk, so one that comes late, or not at all, only does not help.
"""

from __future__ import annotations

import functools
from typing import Any

import attrs
import numba
import numpy as np
from numpy.typing import NDArray

from qframe_packed.compiled import atomics
from qframe_packed.compiled.addresses import integers_at
from qframe_packed.compiled.functions import Function
from qframe_packed.compiled.helpers import HELPERS
from qframe_packed.compiled.memory import Memory, aligned
from qframe_packed.compiled.parameters import Parameters, run_row, table
from qframe_packed.compiled.splitting import WORTH, plan_of

# int64s of a line of the cache, so that no two threads write to the same one by chance.
_LINE = 8
# The lines of what threads share: the number of chunks that are done; whether the first
# thread has begun, their number, and how to wait; then, for each, the next chunk of those
# that it takes first.
_SHARED, _TICKETS = 8 * _LINE, 16 * _LINE
_NEVER = 2**40
# How often a thread that comes before the first one sleeps, until it goes again.
_PATIENCE = 100


@numba.njit
def _alone(table: int, plan: int, count: int, samples: int) -> None:
    rows = integers_at(plan)
    for i in range(count):
        run_row(table + 16 * i, 0, samples * rows[3 * i])


@numba.njit
def _together(
    table: int, plan: int, count: int, state: int, thread: int, samples: int
) -> None:
    rows, shared = integers_at(plan), state + _SHARED
    threads, waiting = integers_at(shared)[1], shared + 16
    if thread == 0:
        atomics.add(shared, 1)
    elif not atomics.wait(shared, 1, waiting, _PATIENCE):
        return
    row, before = 0, 0
    while row < count:
        total, step, length = samples * rows[3 * row], rows[3 * row + 1], rows[3 * row + 2]
        chunks = (total + step - 1) // step
        for i in range(threads):
            # A thread takes its own chunks first: it probably wrote what they read.
            owner = (thread + i) % threads
            low = before + (chunks * owner + threads - 1) // threads
            high = before + (chunks * (owner + 1) + threads - 1) // threads
            ticket = state + _TICKETS + 8 * _LINE * owner
            while low < high:
                seen = atomics.read(ticket)
                low = max(low, seen)
                if low < high and atomics.replace(ticket, seen, low + 1):
                    first = (low - before) * step
                    run_row(table + 16 * row, first, min(first + step, total))
                    for other in range(row + 1, row + length):
                        run_row(table + 16 * other, 0, samples * rows[3 * other])
                    atomics.add(state, 1)
        before += chunks
        row += length
        atomics.wait(state, before, waiting, _NEVER)


@numba.njit
def run(call: int, samples: int) -> None:
    """Run a table for a number of samples, alone or, with a state, as one of threads.

    At the address of a call are those of the table and its plan, the number of kernels, the
    address of the state or 0, and the number of the thread. An argument takes longer.
    """
    part = integers_at(call)
    table, plan, count, state, thread = part[0], part[1], part[2], part[3], part[4]
    if state:
        _together(table, plan, count, state, thread, samples)
    else:
        _alone(table, plan, count, samples)


# It lets other Python threads run.
PROGRAM = Function(run, (numba.int64,) * 2, functools.partial(numba.njit, nogil=True))


@attrs.define(eq=False)
class Program:
    """Kernels that are bound to a memory."""

    memory: Memory
    kernels: list[Parameters]
    _plan: int = attrs.field(init=False)
    _cost: float = attrs.field(init=False)
    # One for each thread, whose working buffers no other thread uses.
    _tables: list[int] = attrs.field(init=False)
    # Run them for a number of samples, in this thread.
    alone: functools.partial[None] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._cost = sum(kernel.cost for kernel in self.kernels)
        self._plan = self.memory.keep(plan_of(self.kernels))
        self._tables = [table(self.kernels, self.memory)]
        call = self.memory.keep(self._call(0, 0))
        # A single image takes so little time that a look-up would be seen.
        self.alone = functools.partial(PROGRAM.compiled, call)

    def __call__(self, samples: int) -> None:
        """Run them for a number of samples, in this thread."""
        self.alone(samples)

    def prepare(self, threads: int) -> None:
        """Let so many threads run them together, from the next move of a buffer on."""
        while len(self._tables) < threads:
            self._tables.append(table(self.kernels, self.memory.beside()))

    def share(self, samples: int, threads: int) -> None:
        """Run them for a number of samples, in this thread and in helpers that come."""
        if samples * self._cost < WORTH:
            self(samples)
            return
        state = _state(threads)
        for thread in range(1, threads):
            HELPERS.offer(functools.partial(self._help, samples, state, thread))
        self._help(samples, state, 0)

    def _help(self, samples: int, state: NDArray[Any], thread: int) -> None:
        # The state, and the call, live as long as a thread may read them.
        call = self._call(int(state.ctypes.data), thread)
        PROGRAM.compiled(int(call.ctypes.data), samples)

    def _call(self, state: int, thread: int) -> NDArray[Any]:
        parts = self._tables[thread], self._plan, len(self.kernels), state, thread
        return np.array(parts, np.int64)


_WAITING = atomics.functions()


def _state(threads: int) -> NDArray[Any]:
    state = aligned((_TICKETS // 8 + _LINE * threads,), np.int64)
    state[_SHARED // 8 + 1 : _SHARED // 8 + 5] = threads, *_WAITING
    return state
