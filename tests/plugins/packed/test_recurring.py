"""Recurrent cells in packed files: both engines to the bit, and limits."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples import settings
from packed_checks import F, check, halves, peak
from packed_graphs import chain, computed, sign
from qframe.deployment.graph import operations as op
from qframe.deployment.graph.operations.recurring import GATES
from qframe.errors import DataError
from qframe_packed import files
from qframe_packed.interpreter import Interpreter
from qframe_packed.limits import Limits, cost_of
from qframe_packed.packing import PackedTensor
from qframe_packed.runtime import Runtime


@st.composite
def recurrences(draw):
    """A loop over integers or floats, between other operations."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    function = draw(st.sampled_from([*GATES]))
    units, steps = draw(st.integers(1, 9)), draw(st.integers(1, 5))
    sums = GATES[function] * units
    kernel = rng.normal(size=(sums, units)).astype(F)
    scale = None
    if draw(st.booleans()):
        kernel = PackedTensor.of(rng.integers(-8, 8, (sums, units)))
        scale = np.asarray(rng.uniform(0.01, 0.3, draw(st.sampled_from([(), (sums,)]))), F)
    after = function == "gru_reset_after" and draw(st.booleans())
    functions = st.sampled_from([*map(op.Activation, op.FUNCTIONS), None])
    loop = op.Recurrence(
        function,
        kernel,
        scale,
        rng.normal(size=sums).astype(F) if after else None,
        draw(functions),
        draw(functions) if function != "simple_rnn" else None,
        draw(st.sampled_from(["forwards", "backwards"])),
        draw(st.sampled_from(["last", "all", "reversed"])),
    )
    dense = op.Dense(kernel=PackedTensor.of(rng.integers(-3, 4, (sums, 3))))
    scaled = op.Affine(scale=F(0.1), shift=rng.normal(size=sums).astype(F))
    return chain((steps, 3), sign(), dense, scaled, loop, op.Activation("relu"))


@pytest.mark.pure
@given(recurrences())
@settings(max_examples=40)
def test_engines_files_and_batches_agree_to_the_bit(graph):
    graph = files.decode(files.encode(graph))
    x = halves(7, *graph.inputs[0])
    with np.errstate(all="ignore"):
        check(graph, x)
        (expected,) = computed(graph, x)
    engine = Runtime(graph, "numba")
    alone = [engine.predict(x[i : i + 1]) for i in range(7)]
    np.testing.assert_array_equal(np.concatenate(alone), expected)
    for threads in (2, 9):
        np.testing.assert_array_equal(engine.predict(x, threads=threads), expected)


def loop_of(units, steps):
    kernel = PackedTensor.of(np.resize([1, -1, 0], (4 * units, units)))
    return chain((steps, 4 * units), op.Recurrence("lstm", kernel))


@pytest.mark.pure
def test_a_loop_costs_its_steps_and_its_kernel():
    graph = loop_of(100, 20)
    cost = cost_of(graph)
    assert 20 * 4 * 100**2 < cost.work < cost_of(loop_of(100, 40)).work / 1.9
    x = halves(1, *graph.inputs[0])
    assert peak(lambda: Interpreter(graph).predict([x])) < 4 * cost.memory
    # Steps without products take time too.
    content = files.encode(loop_of(1, 2**21))
    assert len(content) < 2**10
    with pytest.raises(DataError, match=r"operations .*\(path, work=\d+\)"):
        Runtime(files.decode(content), "numpy", Limits())
