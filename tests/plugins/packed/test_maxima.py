"""Max pools behind products of codes: of the sums, and equal to NumPy to the bit."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples import settings
from packed_checks import F, assert_drawn, check
from packed_graphs import chain, int8_kernel
from qframe.deployment.graph import operations as op

pytestmark = pytest.mark.pure


@st.composite
def pools(draw):
    """A product, functions of its sums, and a pool before or after they are rounded."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    rows, columns, groups = *rng.integers(2, 12, 2).tolist(), int(rng.choice([1, 1, 3]))
    channels, inputs = groups * int(rng.choice([1, 5, 16, 33, 70])), groups * 4
    steps = [op.Round(low=-100, high=155)]
    weights = int8_kernel(rng, channels, 1, 2, 4)
    steps.append(op.Conv2D(kernel=weights, pads=(0, 0, 0, 1), groups=groups))
    scale = rng.normal(size=channels) * rng.choice([0.01, 0.01, 0, 1e37], channels)
    shift = rng.normal(size=channels) * 20
    if rng.random() < 0.1:
        shift[0] = rng.choice([np.inf, np.nan])
    affine = op.Affine(scale=scale.astype(F), shift=shift.astype(F))
    after = [
        *[affine][: draw(st.integers(0, 1))],
        *[affine][: draw(st.integers(0, 1))],
        *[op.Affine()][: draw(st.integers(0, 1))],
        op.Activation(function="relu", threshold=float(rng.choice([0, 0, 0, -1, 1]))),
        op.Activation(function=str(rng.choice(["relu", "hard_tanh", "elu"]))),
    ]
    if not any(isinstance(step, op.Affine) for step in after):
        after.insert(0, op.Affine())
    after = after[: draw(st.integers(1, len(after)))]
    after.append(op.Round(low=0, high=255, divisor=float(rng.choice([0.5, 1]))))
    sizes = draw(st.sampled_from([(2, 2), (2, 2), (2, 2), (2, 2), (1, 2), (3, 2)]))
    size = tuple(int(min(n, m)) for n, m in zip(sizes, (rows, columns), strict=True))
    direction = rng.choice([-1, 1], channels).astype(np.int8)
    pool = op.MaxPool(
        pool=size,
        strides=draw(st.sampled_from([(2, 2), (2, 2), (2, 2), (1, 2)])),
        direction=direction if rng.random() < 0.1 else None,
    )
    place = draw(st.sampled_from([0, len(after), len(after), int(rng.integers(9))]))
    after.insert(min(place, len(after)), pool)
    steps += [*after, op.Conv2D(kernel=int8_kernel(rng, 3, 1, 1, channels))]
    outputs = {len(steps), *rng.integers(1, len(steps), draw(st.sampled_from([0, 0, 1])))}
    x = rng.integers(-140, 200, (3, rows, columns, inputs)).astype(F)
    return chain(x.shape[1:], *steps, outputs=tuple(map(int, outputs))), x


@pytest.mark.filterwarnings("ignore:invalid value", "ignore:overflow")
def test_pools():
    seen = set()

    @given(pools())
    @settings(max_examples=100)
    def run(case):
        kinds = check(*case)
        seen.add(any("pool" in kind for kind in kinds))

    run()
    assert_drawn(seen, {True, False})


def test_sums_are_pooled():
    """Of both signs of scales, over several chunks of pixels and images."""
    rng = np.random.default_rng(0)
    scale, shift = rng.normal(size=(2, 70)).astype(F) * [[0.02], [9]]
    graph = chain(
        (17, 15, 6),
        op.Round(low=0, high=255),
        op.Conv2D(kernel=int8_kernel(rng, 70, 2, 2, 6)),
        op.Affine(scale=scale.astype(F), shift=shift.astype(F)),
        op.Activation(function="relu", most=200.0),
        op.Round(low=0, high=255),
        op.MaxPool(),
        op.Conv2D(kernel=int8_kernel(rng, 3, 1, 1, 70)),
    )
    x = rng.integers(0, 256, (3, 17, 15, 6)).astype(F)
    assert not any("pool" in kind for kind in check(graph, x))
