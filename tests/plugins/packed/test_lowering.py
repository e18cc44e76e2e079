"""From graphs with scales to packed ones, which have affine operations instead."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples import settings
from packed_graphs import chain, computed, names_of
from qframe.deployment.graph import operations as op
from qframe.deployment.graph.kernels import Kernel
from qframe.errors import DataError
from qframe_packed.lowering import to_packed

pytestmark = pytest.mark.pure
F = np.float32


def levels(scale=0.5):
    thresholds = (np.arange(3) + 0.5).astype(F) * F(scale)
    return op.Quantize(thresholds, low=0, step=1, scale=scale, zero_point=3)


def image_kernel(kind, rng):
    if kind == "float":
        return rng.normal(size=(2, 3, 3, 2)).astype(F)
    values = rng.integers(-3, 4, (2, 3, 3, 2))
    return Kernel(values, F({"one": 0.25, "negative": -0.25, "each": [0.25, -2]}[kind]))


def steps_of(kernel, x):
    """A product and the scales of its sums, as a model is lowered."""
    integers = isinstance(kernel, Kernel)
    pad = 2.0 if integers else 2 * x.scale
    yield x
    if not integers:
        yield op.Dequantize(scale=x.scale)
    yield op.Conv2D(kernel=kernel, pads=(1, 1, 1, 1), pad=pad)
    if integers and (np.ndim(kernel.scale) or kernel.scale < 0):
        yield op.Dequantize(scale=np.float64(x.scale) * kernel.scale)


@given(
    kinds=st.lists(st.sampled_from(["float", "one", "negative", "each"]), max_size=2),
    bias=st.booleans(),
    quantized=st.booleans(),
    seed=st.integers(0, 2**16),
)
@settings(max_examples=60)
def test_packed_graphs_return_what_graphs_with_scales_do(kinds, bias, quantized, seed):
    rng = np.random.default_rng(seed)
    steps = [*steps_of(image_kernel(kinds[0], rng), levels())] if kinds else [levels()]
    value = chain((5, 4, 2), *steps).values()[-1]
    if bias:
        if value.grid is not None:
            steps.append(op.Dequantize(scale=value.grid.scale))
        steps.append(op.Affine(shift=F([0.5, -1])))
        value = chain((5, 4, 2), *steps).values()[-1]
    if len(kinds) > 1:
        second = image_kernel(kinds[1], rng)
        if value.grid is not None and not isinstance(second, Kernel):
            steps.append(op.Dequantize(scale=value.grid.scale))
        steps.append(op.Conv2D(kernel=second))
        value = chain((5, 4, 2), *steps).values()[-1]
    if value.grid is not None:
        steps.append(op.Dequantize(scale=value.grid.scale))
    graph = chain((5, 4, 2), *steps, *([levels(0.75)] if quantized else []))
    x = rng.normal(size=(3, 5, 4, 2)).astype(F)
    (actual,), (expected,) = computed(to_packed(graph), x), computed(graph, x)
    if quantized:
        assert np.mean(actual != expected) < 0.05  # beside a threshold
    else:
        np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-4)


def test_a_float_kernel_reads_integers_and_is_scaled_once():
    graph = chain((4, 4, 2), *steps_of(np.ones((2, 3, 3, 2), F), levels()))
    actual = to_packed(graph)
    assert names_of(actual) == ["quantize", "conv2d", "affine"]
    assert actual.nodes[1].operation.pad == 2
    assert actual.nodes[2].operation.scale == 0.5


def test_a_bias_and_a_scale_are_one_operation():
    dense = op.Dense(kernel=Kernel(np.ones((2, 2), int), F([0.5, 2])))
    steps = levels(), dense, op.Dequantize(scale=F([0.25, 1])), op.Affine(shift=F([1, 2]))
    actual = to_packed(chain((2,), *steps))
    assert names_of(actual) == ["quantize", "dense", "affine"]
    assert actual.nodes[-1].operation.scale.tolist() == [0.25, 1]
    assert actual.nodes[-1].operation.shift.tolist() == [1, 2]


def test_a_float_kernel_behind_scales_of_channels_reads_floats():
    dense = op.Dense(kernel=Kernel(np.ones((2, 2), int), F([0.5, 2])))
    after = op.Dense(kernel=np.ones((1, 2), F))
    graph = chain((2,), levels(), dense, op.Dequantize(scale=F([0.25, 1])), after)
    assert names_of(to_packed(graph)) == ["quantize", "dense", "affine", "dense"]


def test_packed_graphs_have_no_scale():
    graph = to_packed(chain((2,), levels(), op.Dequantize(scale=0.5)))
    grid = graph.values()[1].grid
    assert (grid.low, grid.high, grid.scale, grid.zero_point) == (0, 3, 1.0, 0)
    assert names_of(graph) == ["quantize", "affine"]


def test_what_no_kernel_computes_is_refused():
    with pytest.raises(DataError, match="pad of 'layer1': it takes floats"):
        chain((4, 4, 2), levels(), op.Pad(pads=(1, 1, 1, 1))).values()
    large = Kernel(np.full((2, 2), 2**15))
    steps = levels(), op.Dense(kernel=large), *[op.Dense(kernel=large)] * 2
    with pytest.raises(DataError, match=r"dense of 'layer2': .* within 32 bits"):
        chain((2,), *steps).values()
