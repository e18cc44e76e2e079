"""Programs run as by several threads, one part after another in an order that is drawn."""

from unittest import mock

import numba
import numpy as np

from qframe_packed.compiled import engine
from qframe_packed.compiled.functions import function
from qframe_packed.compiled.parameters import run_row
from qframe_packed.compiled.program import Program


def predict_in_parts(compiled, inputs, threads=3, seed=0):
    """What an engine returns if threads take any parts of each kernel, in any order."""
    run, rng = function(run_row, *[numba.int64] * 3).compiled.ctypes, np.random.default_rng(seed)

    def share(program, samples, team):
        for row, kernel in enumerate(program.kernels):
            total = samples * kernel.parts
            count = min(total, int(rng.integers(1, 3 * threads)))
            cuts = [0, *np.sort(rng.choice(total + 1, count)).tolist(), total]
            for part in rng.permutation(len(cuts) - 1).tolist():
                table = program._tables[rng.integers(team.threads)]
                run(table + 16 * row, cuts[part], cuts[part + 1])

    # So many that the samples are not split among them.
    most = threads + 2 * len(inputs[0])
    with (
        mock.patch.object(Program, "share", share),
        mock.patch.object(engine, "cores", lambda: threads),
    ):
        return compiled.predict(inputs, most)
