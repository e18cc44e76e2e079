"""Sums that become codes or floats in registers: equal to NumPy to the bit."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from packed_checks import F, assert_drawn, check, conv
from packed_graphs import chain
from qframe.deployment.graph import operations as op
from qframe_packed.compiled.direct import Direct
from qframe_packed.compiled.engine import Engine
from qframe_packed.compiled.tiles import TILES
from qframe_packed.packing import PackedTensor

pytestmark = pytest.mark.pure


@st.composite
def products(draw):
    """A product, what follows it in registers, and an input of several images."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    groups, limit = draw(st.sampled_from([1, 1, 1, 3])), draw(st.sampled_from([128, 8]))
    outputs = groups * draw(st.sampled_from([1, 10, 16, 24, 33, 64, 70, 130]))
    inputs = groups * draw(st.sampled_from([1, 3, 4, 16]))

    def kernel(*shape):
        return PackedTensor.of(rng.integers(-limit, limit, shape))

    steps = [op.Round(low=-100, high=155)]
    dense = groups == 1 and draw(st.booleans())
    if dense:
        shape = draw(st.sampled_from([(7 * inputs,), (5, inputs)]))
        steps.append(op.Dense(kernel=kernel(outputs, shape[-1])))
    else:
        shape = (*rng.integers(4, 10, 2).tolist(), inputs)
        weights = kernel(outputs, 2, 3, inputs // groups)
        steps.append(op.Conv2D(kernel=weights, groups=groups, pads=(1, 0, 0, 2), pad=3))
    scale, shift = rng.normal(size=(2, outputs)) * [[0.02], [9]]
    affine = op.Affine(scale=scale.astype(F), shift=shift.astype(F))
    steps.append(draw(st.sampled_from([affine, affine, op.Affine()])))
    if draw(st.booleans()):
        steps.append(
            op.Activation(function="relu", most=draw(st.sampled_from([None, 60.0])))
        )
    ending = draw(st.sampled_from(["floats", "codes", "padded", "pooled"]))
    if ending != "floats":
        divisor = float(F(draw(st.sampled_from([1, 0.7]))))
        steps.append(op.Round(low=0, high=255, divisor=divisor))
        if ending == "pooled" and not dense:
            steps.append(op.MaxPool())
        pads = (1, 0, 0, 1) if ending == "padded" else (0, 0, 0, 0)
        last = kernel(3, 2, 2, outputs)
        steps.append(
            op.Dense(kernel=kernel(3, outputs)) if dense else conv(last, pads=pads)
        )
    x = rng.normal(size=(draw(st.sampled_from([1, 3, 70])), *shape)) * 100
    x.reshape(-1)[:3] = np.nan, np.inf, -np.inf
    return ending, chain(shape, *steps), x.astype(F)


def test_products():
    seen = set()

    @given(products())
    @settings(max_examples=60)
    def run(case):
        ending, graph, x = case
        check(graph, x)
        direct = [isinstance(step, Direct) for step in Engine(graph).schedule.steps]
        seen.add((ending, any(direct)))

    run()
    assert_drawn(seen, {(e, True) for e in ("floats", "codes", "padded", "pooled")})


@pytest.mark.parametrize("outputs", [1, 64, 70, 1000])
def test_dense_layer_of_a_vector_is_split_into_panels(outputs):
    """Threads share them, and any of these parts may be of one sample or of several."""
    rng = np.random.default_rng(outputs)
    dense = op.Dense(kernel=PackedTensor.of(rng.integers(-128, 128, (outputs, 37))))
    graph = chain((37,), op.Round(low=-100, high=155), dense, op.Affine(scale=F(0.01)))
    step = Engine(graph).schedule.steps[-1]
    assert isinstance(step, Direct)
    assert step.parts == step.panels == -(-outputs // TILES[step.tile].channels)
    x = (rng.normal(size=(150, 37)) * 100).astype(F)
    for count in (1, 2, 64, 150):
        check(graph, x[:count])


def test_what_an_epilogue_has_to_do_goes_through_memory():
    """Such as a function that is no part of a `Finish`."""
    rng = np.random.default_rng(0)
    kernel = PackedTensor.of(rng.integers(-128, 128, (9, 1, 1, 4)))
    scale = op.Affine(scale=F(0.01))
    steps = op.Round(low=0, high=255), conv(kernel), scale
    x = rng.integers(0, 256, (2, 5, 6, 4)).astype(F)
    tanh = chain((5, 6, 4), *steps, op.Activation(function="hard_tanh"))
    first, *_ = (step for step in Engine(tanh).schedule.steps if "codes" in step.label)
    assert not isinstance(first, Direct)
    check(tanh, x)
