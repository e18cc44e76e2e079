"""How many results of the runtime of LiteRT are those of the model, by operation."""

import numpy as np
import pytest

from litert_cases import CASES
from litert_files import BUILTIN, XNNPACK
from litert_graphs import expected, levels, outputs

_GRAPHS = 60


@pytest.mark.parametrize("name", CASES)
def test_operation_prints_its_row(name):
    case, rng = CASES[name], np.random.default_rng(0)
    differences = {XNNPACK: [], BUILTIN: []}
    for _ in range(_GRAPHS):
        graph = case.graph(rng)
        inputs = levels(rng, graph)
        reference = expected(graph, inputs)
        for kernels, found in differences.items():
            actual, _ = outputs(graph, inputs, kernels, **case.settings)
            found.append(np.abs(actual - reference).ravel())
    cells = [name]
    for found in differences.values():
        steps = np.concatenate(found)
        cells += [f"{100 * np.mean(steps == 0):.2f} %", str(steps.max())]
        assert steps.size
    print(f"\n| {' | '.join(cells)} |")
