"""Products of codes: equal to the integers of NumPy to the bit, for any factors."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from packed_checks import F, assert_drawn, check
from packed_graphs import chain, sign, tensors
from qframe.deployment.graph import operations as op
from qframe.deployment.graph.values import Value
from qframe_packed.graph import Node, PackedGraph
from qframe_packed.packing import PackedTensor

pytestmark = pytest.mark.pure


def pick(rng, *choices):
    return int(rng.choice(choices))


def kernel(rng, shape):
    """Integers of 1 to 8 bits, and some of which codes have no products."""
    bits = pick(rng, 1, 2, 3, 4, 5, 6, 7, 8, 8, 8)
    low = pick(rng, -(2 ** (bits - 1)), -(2 ** (bits - 1)), 0, -128)
    numbers = low + rng.integers(0, 2**bits, shape)
    return PackedTensor.of(numbers if rng.random() < 0.95 else numbers * 3)


def product(rng, shape, levels):
    """A dense layer or a convolution, padded with a level or with another integer."""
    groups = pick(rng, *(g for g in (1, 1, 1, 2, 3) if not shape[-1] % g))
    outputs = groups * pick(rng, 1, 2, 7, 16, 17, 33, 64, 65, 130 // groups)
    if len(shape) < 3 or rng.random() < 0.2:
        return op.Dense(kernel=kernel(rng, (outputs, shape[-1])))
    reach = rng.integers(1, np.minimum(shape[:2], 5) + 1)
    size = rng.integers(1, np.minimum(reach, 3) + 1)
    dilation = (reach - 1) // np.maximum(size - 1, 1)
    dilation = np.maximum(np.where(size == 1, 1, dilation), 1)
    room = np.repeat((size - 1) * dilation + 1, 2)
    pads = tuple(int(rng.integers(most)) for most in room)
    return op.Conv2D(
        kernel=kernel(rng, (outputs, *map(int, size), shape[-1] // groups)),
        strides=tuple(map(int, rng.integers(1, 3, 2))),
        dilation=tuple(map(int, dilation)),
        pads=pads,
        pad=float(rng.choice([*levels, levels[-1] + 1])),
        groups=groups,
    )


def rounding(rng):
    """From floats to levels of 1 to 9 bits, by rounding or by thresholds."""
    count = pick(rng, 2, 3, 5, 16, 17, 100, 255, 256, 256, 256, 257)
    low, step = pick(rng, 0, 0, -1, -128, 7, 1000), pick(rng, 1, 1, 1, 2)
    if step == 1 and rng.random() < 0.6:
        factor, divisor = rng.choice([(1, 1), (1, 0.3), (3, 1)]).astype(F).tolist()
        return op.Round(low=low, high=low + count - 1, factor=factor, divisor=divisor)
    return op.Quantize(thresholds=np.arange(1, count, dtype=F), low=low, step=step)


@st.composite
def products(draw):
    """Products with levels, each with what reads its sums; and the input of the first."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    channels = pick(rng, 1, 2, 3, 4, 5, 8, 13, 16, 33, 64, 130)
    shape = (*rng.integers(1, 8, pick(rng, 0, 1, 2, 2, 2)).tolist(), channels)
    value, steps = Value(shape), []
    for _ in range(draw(st.integers(1, 2))):
        steps.append(rounding(rng))
        span = PackedGraph.infer(steps[-1], value).span
        steps.append(product(rng, value.shape, range(span.low, span.high + 1, span.step)))
        sums = chain(shape, *steps).values()[-1]
        value, outputs = Value(sums.shape), sums.shape[-1]
        # Sums spread over the levels that follow.
        scale = rng.normal(size=outputs) * 200 / max(1, sums.span.high, -sums.span.low)
        shift = rng.normal(size=outputs) * 50
        after = [op.Affine(scale=scale.astype(F), shift=shift.astype(F))]
        steps += [*after, op.Activation(function="relu")][: draw(st.integers(1, 2))]
    steps += [rounding(rng)][: draw(st.integers(0, 1))]
    x = rng.integers(-140, 260, (3, *shape)).astype(F)
    return chain(shape, *steps[: len(steps) - draw(st.integers(0, 1))]), x


def test_products():
    """Of 1 to 8 bits, padded with any code, of any number of channels and groups."""
    seen = set()

    @given(products())
    @settings(max_examples=200)
    def run(case):
        seen.update(check(*case))

    run()
    assert_drawn(seen, {"codes", "float", "ENCODE", "FINISH", "border"})


@st.composite
def blocks(draw):
    """Residual blocks of which any tensor may be read again, or returned."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    channels = pick(rng, 1, 3, 8, 16, 17, 40, 64, 70)
    shape = (*rng.integers(1, 6, 2).tolist(), channels)
    nodes, floats = [], [0]

    def add(operation, *inputs):
        nodes.append(Node(operation, inputs, operation.name))
        return len(nodes)

    for _ in range(draw(st.integers(1, 3))):
        divisor, most = rng.choice([0.25, 0.3, 1]), draw(st.sampled_from([None, 20.0]))
        low = pick(rng, 0, -100)
        levels = op.Round(low=low, high=low + pick(rng, 255, 30), divisor=float(F(divisor)))
        codes = add(levels, floats[-1])
        for size in rng.permutation([1, 3])[: pick(rng, 1, 1, 2)].tolist():
            of, pads = (channels, size, size, channels), (size // 2,) * 4
            numbers = PackedTensor.of(rng.integers(-128, 128, of))
            pad = float(rng.integers(low, low + 30))
            last = add(op.Conv2D(kernel=numbers, pads=pads, pad=pad), codes)
            scale = rng.normal(size=channels) / 128 / size / np.sqrt(channels)
            shift = rng.normal(size=channels)
            if rng.random() < 0.9:
                last = add(op.Affine(scale=scale.astype(F), shift=shift.astype(F)), last)
            else:
                last = add(op.Affine(scale=scale.astype(F)), last)
            if rng.random() < 0.7:
                last = add(op.Merge(function="add"), last, floats[pick(rng, 0, -1)])
            if rng.random() < 0.7:
                last = add(op.Activation(function="relu", most=most), last)
            floats.append(last)
    outputs = {len(nodes), *rng.integers(len(nodes) + 1, size=draw(st.integers(0, 2)))}
    x = rng.normal(size=(3, *shape)) * 20
    bad = rng.choice([np.nan, np.inf, -np.inf], x.shape)
    x = np.where(rng.random(x.shape) < draw(st.sampled_from([0, 0.05])), bad, x)
    return PackedGraph((shape,), tuple(nodes), tuple(map(int, outputs))), x.astype(F)


@pytest.mark.filterwarnings("ignore:invalid value")
def test_blocks():
    """Sums are finished as they are one step after another."""
    seen = set()

    @given(blocks())
    @settings(max_examples=100)
    def run(case):
        seen.update(check(*case))

    run()
    assert_drawn(seen, {"codes", "FINISH", "ADD", "STORE", "border"})


def test_sums_that_float32_does_not_hold():
    """Affine steps round them; thresholds are compared with the integers themselves."""
    kernel = PackedTensor.of(np.random.default_rng(0).integers(100, 128, (70, 3, 3, 130)))
    first, sums = op.Round(low=0, high=255), op.Conv2D(kernel=kernel, pads=(1, 1, 1, 1))
    x = np.random.default_rng(1).integers(200, 300, (2, 5, 4, 130)).astype(F)
    *_, integers = tensors(chain((5, 4, 130), first, sums), x)
    assert integers.max() > 2**24
    scale = op.Affine(scale=np.full(70, 1e-6, F))
    edges = np.unique(integers)[[1, 5, 200, -1]]
    for after, kind in (
        ((), "codes"),
        ((scale, sign()), "codes"),
        ((op.MaxPool(), op.Reshape(shape=(280,)), op.Affine()), "codes"),
        ((op.Quantize(thresholds=edges),), "numpy"),
        ((op.MaxPool(), op.Quantize(thresholds=edges)), "numpy"),
        ((op.GlobalPool(function="max"),), "numpy"),
    ):
        kinds = check(chain((5, 4, 130), first, sums, *after), x)
        assert {"codes", "numpy"} & kinds == {kind}
    both = (scale, 2), (op.Quantize(thresholds=edges), 2)
    nodes = Node(first, (0,)), Node(sums, (1,)), *(Node(step, (i,)) for step, i in both)
    assert "numpy" in check(PackedGraph(((5, 4, 130),), nodes, (3, 4, 2)), x)
