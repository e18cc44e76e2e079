"""Each operation: the runtime beside its kernels in NumPy, and beside the graph."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("ai_edge_litert", reason="in the environment `tests`")

from litert_cases import CASES
from litert_files import REFERENCE
from litert_graphs import KERNELS, expected, levels, outputs

pytestmark = pytest.mark.pure
# The steps between the runtime and the graph, by the bits of activations; and those of
# operators that round twice, or compute with few bits.
MOST = {8: 1, 16: 4}
MORE = {"resize": 2, "resize, same grid": 2}


@pytest.mark.parametrize("name", CASES)
@settings(max_examples=2)
@given(seed=st.integers(0, 2**32 - 1))
def test_operation_equals_kernels_in_numpy(name, seed):
    case, rng = CASES[name], np.random.default_rng(seed)
    graph = case.graph(rng)
    inputs = levels(rng, graph, int(rng.choice([1, 3])))
    reference = expected(graph, inputs)
    for kernels in KERNELS:
        if kernels == REFERENCE and case.weights == "int4":
            continue  # These have no depthwise convolution of that version.
        found, modelled = outputs(graph, inputs, kernels, **case.settings)
        np.testing.assert_array_equal(found, modelled, kernels)
        most = MORE.get(name, MOST[case.bits])
        assert np.abs(found - reference).max() <= most, kernels
