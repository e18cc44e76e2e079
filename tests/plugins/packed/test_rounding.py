"""How far sums of floats differ between the engines, and what that does to quantizers."""

import attrs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples import settings
from packed_checks import F
from packed_graphs import chain
from qframe.deployment.graph import operations as op
from qframe.deployment.graph.reference import run
from qframe_packed.graph import Node, PackedGraph
from qframe_packed.packing import PackedTensor
from qframe_packed.runtime import Runtime

pytestmark = pytest.mark.pure
SHAPE = (4, 5, 6)
# Half of the distance from 1.0 to the next float32.
UNIT = 2.0**-24


def operation(rng, name):
    """An operation that adds up floats, and how many of them."""
    if name == "mean":
        return op.GlobalPool(function="average"), 20
    if name == "average_pool":
        return op.AveragePool(pool=(3, 2), strides=(1, 1), pads=(1, 0, 0, 1)), 6
    shape = (7, 6) if name == "dense" else (7, 2, 3, 6)
    kernel = rng.normal(size=shape).astype(F)
    if name == "integers":
        kernel = PackedTensor.of(rng.integers(-9, 10, shape))
    if name == "depthwise":
        return op.Conv2D(kernel=kernel[:6, ..., :1], groups=6), 6
    if name == "dense":
        return op.Dense(kernel=kernel), 6
    return op.Conv2D(kernel=kernel, pads=(1, 0, 2, 1), pad=0.3), 36


def bound(operation, count, x):
    """The most that sums of so many numbers differ, added in float32 or in float64."""
    kernel = getattr(operation, "kernel", None)
    if kernel is not None:
        numbers = kernel.integers() if isinstance(kernel, PackedTensor) else kernel
        operation = attrs.evolve(operation, kernel=np.abs(numbers).astype(F))
    magnitude = run(operation, np.abs(x)).astype(np.float64)
    return (count + 4) * UNIT * magnitude


def both(graph, x):
    """What each engine returns."""
    return [Runtime(graph, name).predict(x) for name in ("numba", "numpy")]


@pytest.mark.parametrize(
    "name", ["dense", "conv2d", "depthwise", "integers", "mean", "average_pool"]
)
def test_sums_of_floats_differ_by_rounding_only(name):
    """And a quantizer behind them is exact for the sums of its own engine."""
    turned = []

    @given(st.integers(0, 2**32), st.integers(-60, 60))
    @settings(max_examples=40)
    def run_both(seed, exponent):
        rng = np.random.default_rng(seed)
        x = (rng.normal(size=(3, *SHAPE)) * 2.0**exponent).astype(F)
        adds, count = operation(rng, name)
        sums = run(adds, x)
        # At some of the sums themselves, so that rounding decides.
        thresholds = np.sort(rng.choice(sums.reshape(-1), 3))
        quantize = op.Quantize(thresholds=thresholds)
        graph = PackedGraph((SHAPE,), (Node(adds, (0,)), Node(quantize, (1,))), (1, 2))
        (actual, levels), (exact, expected) = both(graph, x)
        most = bound(adds, count, x)
        assert (np.abs(actual.astype(np.float64) - exact) <= most).all()
        np.testing.assert_array_equal(levels, run(quantize, actual))
        distance = np.abs(exact[..., None].astype(np.float64) - thresholds).min(axis=-1)
        assert (distance <= most)[levels != expected].all()
        turned.append((levels != expected).any())

    run_both()
    assert any(turned)


@pytest.mark.parametrize(
    "adds",
    [
        op.Dense(kernel=np.ones((1, 3), F)),
        op.Conv2D(kernel=np.ones((1, 1, 1, 3), F)),
        op.GlobalPool(function="average"),
        op.AveragePool(pool=(1, 3), strides=(1, 3)),
    ],
    ids=lambda adds: adds.name,
)
def test_sums_that_float32_does_not_hold_are_infinite_in_one_engine(adds):
    """Float64 holds what is added up on the way, and float32 only what is returned."""
    x = F([3e38, 3e38, -3e38])
    shape = (1, 1, 3) if hasattr(adds, "kernel") else (1, 3, 1)
    fused, expected = both(chain(shape, adds), x.reshape(1, *shape))
    mean = 1e38 if "pool" in adds.name else 3e38
    np.testing.assert_allclose(expected.reshape(-1), mean, rtol=1e-6)
    assert not np.isfinite(fused).any()
    # A third of each number is a third of the sums, all of which are finite.
    fused, expected = both(chain(shape, adds), x.reshape(1, *shape) / 3)
    np.testing.assert_allclose(fused, expected, rtol=1e-6)


def test_merges_of_many_are_added_in_order():
    """Also where the third is computed last, as that is where a chain goes on."""
    x = F([[1e8, 1.0, 1.0]])
    first = Node(op.Affine(scale=F(0), shift=F(-1e8)), (0,))
    last = Node(op.Affine(scale=F(2)), (1,))
    merge = Node(op.Merge(function="add"), (0, 1, 2, 0))
    fused, expected = both(PackedGraph(((3,),), (first, last, merge), (3,)), x)
    np.testing.assert_array_equal(fused, expected)
