"""The compiled program: it runs a table of kernels in one call from Python."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numba

from qframe_packed.compiled.notices import noticed
from qframe_packed.compiled.parameters import dispatch
from qframe_packed.compiled.scheduling import KERNELS


def digest(folder: Path) -> str:
    """A name for the version of the kernels in a folder."""
    contents = hashlib.sha256()
    for path in sorted(folder.glob("*.py")):
        contents.update(path.read_bytes())
    return contents.hexdigest()[:16]


_run = dispatch("samples", KERNELS)
# Numba keeps compiled code under this name, and compares no other file with it.
_run.__qualname__ = f"run_{digest(Path(__file__).parent)}"
# `run(samples, table, count)`, where `table` is an address.
run = numba.njit(nogil=True, cache=True)(_run)


def prepare() -> None:
    """Compile the program, or load it, unless a program has run before."""
    if not run.signatures:
        with noticed("Compiling kernels for this processor, once"):
            run(0, 0, 0)
