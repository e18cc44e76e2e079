"""Chains that lead to codes, and are one stage: equal to NumPy to the bit."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples import settings
from packed_checks import F, assert_drawn, check, conv
from packed_graphs import chain, int8_kernel
from qframe.deployment.graph import operations as op
from qframe_packed.compiled.engine import Engine
from qframe_packed.graph import Node, PackedGraph

pytestmark = pytest.mark.pure


@st.composite
def blocks(draw):
    """A residual block of integers with parts that may be missing, and its input."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    names = ("affine", "add", "relu", "most", "store", "depthwise", "padded", "levels")
    parts = {name for name in names if draw(st.booleans())}
    channels, nodes = int(rng.choice([1, 3, 16, 33, 70])), []

    def then(operation, *inputs):
        nodes.append(Node(operation, inputs or (len(nodes),)))
        return len(nodes)

    def rounding(divisor):
        low = int(rng.choice([-128, 0, -7]))
        high = low + int(rng.choice([255, 254, 40]))
        return op.Round(low=low, high=high, divisor=float(F(divisor)))

    pads = (1, 0, 1, 1) if "padded" in parts else (0, 0, 0, 0)
    then(rounding(0.5))
    if "depthwise" in parts:
        size = int(rng.choice([1, 2, 3, 5]))
        pads_ = (size // 2, size - 1 - size // 2) * 2
        weights = int8_kernel(rng, channels, size, size, 1)
        sums = then(conv(weights, groups=channels, pads=pads_, pad=nodes[0].operation.low))
    else:
        sums = then(conv(int8_kernel(rng, channels, 1, 1, channels)))
    last = sums
    if "affine" in parts:
        scale = rng.normal(size=channels).astype(F) / 500
        last = then(op.Affine(scale=scale, shift=rng.normal(size=channels).astype(F)), last)
    else:
        last = then(op.Affine(), last)
    if "add" in parts:
        last = then(op.Merge(function="add"), *rng.permutation([last, 0]).tolist())
    if "relu" in parts:
        most = 6.0 if "most" in parts else None
        last = then(op.Activation(function="relu", most=most), last)
    number = last
    codes = then(rounding(rng.choice([1, 0.05, 3, 700])), last)
    low = nodes[-1].operation.low
    result = then(conv(int8_kernel(rng, 5, 2, 2, channels), pads=pads, pad=low), codes)
    outputs = [result]
    if "store" in parts:
        outputs.append(number)
    if "levels" in parts:
        outputs.append(codes)
    x = (rng.normal(size=(2, 5, 6, channels)) * 50).astype(F)
    return PackedGraph(((5, 6, channels),), tuple(nodes), tuple(outputs)), x


def test_chains_to_codes():
    seen = set()

    @given(blocks())
    @settings(max_examples=60)
    def run(case):
        seen.update(check(*case))

    run()
    assert_drawn(seen, {"FINISH", "NEAREST", "STORE", "ADD", "depthwise of codes", "codes"})


@pytest.mark.parametrize("shape", [(28, 28, 1), (7, 5, 3), (37, 61, 1), (4, 4, 64)])
def test_pixels_of_few_channels_are_rounded_side_by_side(shape):
    rng = np.random.default_rng(0)
    pointwise = conv(int8_kernel(rng, 16, 1, 1, shape[-1]))
    graph = chain(shape, op.Round(low=-100, high=127, divisor=0.5), pointwise)
    first, *_ = Engine(graph).schedule.steps
    assert first.pixels * first.channels == np.prod(shape)
    # 37 * 61 pixels are too many for one row, and are split evenly.
    assert first.channels in {784, 105, 61, 1024}
    x = (60 * rng.normal(size=(3, *shape))).astype(F)
    x.reshape(-1)[:3] = np.nan, np.inf, -np.inf
    check(graph, x)
