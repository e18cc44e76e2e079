"""The compiled program: it runs a table of kernels in one call from Python."""

from __future__ import annotations

import functools
from typing import Any

import numba

from qframe_packed.compiled.functions import Function
from qframe_packed.compiled.parameters import run_table
from qframe_packed.compiled.vectors import emitter


@emitter
def run(b: Any, samples: Any, table: Any, count: Any) -> None:
    """Run a table, which is an address, for a number of samples."""
    run_table(b, table, count, samples)


# It lets other Python threads run.
PROGRAM = Function(run, (numba.int64,) * 3, functools.partial(numba.njit, nogil=True))
