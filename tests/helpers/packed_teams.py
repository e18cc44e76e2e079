"""Programs that several threads run, and the same in one thread and in any order."""

import contextlib
from unittest import mock

import numba
import numpy as np

from qframe_packed.compiled import engine, helpers, program, splitting
from qframe_packed.compiled.functions import function
from qframe_packed.compiled.parameters import run_row
from qframe_packed.compiled.program import Program


@contextlib.contextmanager
def shared(cores, chunk=1):
    """Let threads share each sample, however small, on so many cores.

    A chunk takes so many nanoseconds, as sessions estimate it that begin meanwhile.
    """
    with (
        mock.patch.object(engine, "cores", return_value=cores),
        mock.patch.object(helpers, "cores", return_value=cores),
        mock.patch.object(engine, "_EFFICIENCY", 2**20),
        mock.patch.object(engine, "WORTH", -1),
        mock.patch.object(program, "WORTH", -1),
        mock.patch.multiple(splitting, _CHUNK=chunk, _TINY=chunk / 10),
    ):
        yield


def predict_in_parts(compiled, inputs, threads=3, seed=0):
    """What an engine returns if threads take any parts of each kernel, in any order."""
    run = function(run_row, *[numba.int64] * 3).compiled.ctypes
    rng = np.random.default_rng(seed)

    def share(program, samples, threads):
        for row, kernel in enumerate(program.kernels):
            total = samples * kernel.parts
            count = min(total, int(rng.integers(1, 3 * threads)))
            cuts = [0, *np.sort(rng.choice(total + 1, count)).tolist(), total]
            for part in rng.permutation(len(cuts) - 1).tolist():
                table = program._tables[rng.integers(threads)]
                run(table + 16 * row, cuts[part], cuts[part + 1])

    with shared(threads), mock.patch.object(Program, "share", share):
        return compiled.predict(inputs, threads)
