"""Products of codes: equal to the integers of NumPy to the bit, for any factors."""

from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples import settings
from packed_checks import F, assert_drawn, check
from packed_graphs import chain, sign, tensors
from qframe.deployment.graph import operations as op
from qframe.deployment.graph.values import Value
from qframe_packed.compiled import codes
from qframe_packed.compiled.dots import BytePairs
from qframe_packed.compiled.engine import Engine
from qframe_packed.compiled.tiles import CODES, PACKED, TILES
from qframe_packed.graph import Node, PackedGraph
from qframe_packed.packing import PackedTensor

pytestmark = pytest.mark.pure


def pick(rng, *choices):
    return int(rng.choice(choices))


def kernel(rng, shape):
    """Integers of 1 to 8 bits, and some of which codes have no products."""
    bits, step = pick(rng, 1, 2, 2, 3, 4, 4, 5, 6, 7, 8, 8, 8), pick(rng, 1, 1, 1, 2, 3)
    low = pick(rng, *[-step * 2 ** (bits - 1)] * 3, 0, -128, -1, -3)
    return PackedTensor.of(low + step * rng.integers(0, 2**bits, shape))


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
        pad=float(rng.choice([*levels, levels[-1] + 1, levels[0] + 1])),
        groups=groups,
    )


def rounding(rng):
    """From floats to levels of 1 to 9 bits, by rounding or by thresholds."""
    count = pick(rng, 2, 2, 3, 5, 16, 17, 100, 128, 129, 255, 256, 256, 256, 257)
    low, step = pick(rng, 0, 0, -1, -128, 7, 1000), pick(rng, 1, 1, 1, 2, 3)
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

    @given(products(), st.booleans())
    @settings(max_examples=200)
    def run(case, packs):
        # Weights of a few bits stay packed where a pixel is alone, or everywhere.
        with mock.patch.object(codes, "_FAR", 0 if packs else codes._FAR):
            seen.update(check(*case))

    run()
    assert_drawn(seen, {"codes", "float", "ENCODE", "FINISH", "border"})


@pytest.mark.parametrize(
    ("pair", "most", "holds"),
    [
        ((64, 64), 255, True),
        ((64, 65), 255, False),
        ((-64, -64), 255, True),
        ((-64, -65), 255, False),
        ((127, -128), 255, True),  # products of both signs
        ((127, 127), 129, True),
        ((127, 127), 130, False),
        ((-128, -128), 128, True),
    ],
)
def test_pairs_of_products_that_16_bits_hold(pair, most, holds):
    """Among others that they hold, at any place but across two pairs."""
    weights = np.zeros((3, 8), np.int8)
    weights[1, 4:6] = pair
    assert BytePairs.holds(weights, most) == holds
    codes = np.stack(np.meshgrid([0, most], [0, most]), axis=-1)
    sums = codes.reshape(-1, 2) @ np.array(pair)
    assert holds == (sums == sums.astype(np.int16)).all()
    across = np.zeros((1, 8), np.int8)
    across[0, 3:5] = pair
    assert BytePairs.holds(across, 128)


def dense(low, high, inputs=5000, step=1):
    """A dense layer with weights of which the ends are drawn."""
    numbers = np.random.default_rng(0).integers(0, (high - low) // step + 1, (7, inputs))
    numbers[0, :2] = 0, (high - low) // step
    return op.Dense(kernel=PackedTensor.of(low + step * numbers))


@pytest.mark.parametrize(
    ("weights", "bits"),
    [
        (dense(-8, 7), 4),
        (dense(-2, 1), 2),
        (dense(-1, 1, step=2), 2),
        (dense(-2, 2), 4),
        (dense(-6, 6, step=3), 4),
        (dense(0, 7), 4),
        (dense(0, 8), 8),
        (dense(-9, 6), 8),
        # 16 times the sums would not fit 32 bits.
        (dense(-8, 7, inputs=70_000), 8),
    ],
)
def test_weights_stay_packed(weights, bits):
    inputs = weights.kernel.shape[1]
    graph = chain((inputs,), op.Round(low=0, high=255), weights)
    x = np.random.default_rng(0).integers(0, 256, (3, inputs)).astype(F)
    x[0] = 255
    assert "codes" in check(graph, x)
    step = Engine(graph).schedule.steps[1]
    kind = next((k for k in PACKED if k.weight_bits == bits), CODES)
    assert TILES[step.tile].kind is kind


@pytest.mark.parametrize("pads", [(0, 0, 0, 0), (1, 1, 1, 1)])
def test_signs_with_weights_of_8_bits(pads):
    """Their codes are 0 and 2, so that zeros around them are codes too."""
    kernel = PackedTensor.of(np.random.default_rng(0).integers(-128, 128, (9, 3, 3, 5)))
    graph = chain((6, 5, 5), sign(), op.Conv2D(kernel=kernel, pads=pads))
    x = np.random.default_rng(1).normal(size=(2, 6, 5, 5)).astype(F)
    assert "codes" in check(graph, x)


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
            if rng.random() < 0.3:
                parts = rng.normal(size=(2, channels)).astype(F)
                parts = parts[:, 0] if rng.random() < 0.8 else parts
                scale, shift = (np.array(p) if rng.random() < 0.8 else None for p in parts)
                term = add(op.Affine(scale=scale, shift=shift), codes)
                terms = rng.permutation([last, term]).tolist()
                last = add(op.Merge(function="add"), *terms)
            elif rng.random() < 0.7:
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
    assert_drawn(seen, {"codes", "FINISH", "ADD", "ADD_CODES", "STORE", "border"})


def test_residuals_of_codes():
    """A sum reads the codes, of which no step computes the affine function."""
    rng, nodes = np.random.default_rng(0), []
    for i in range(0, 10, 5):
        kernel = PackedTensor.of(rng.integers(-128, 128, (40, 3, 3, 40)))
        scale, shift = np.array(0.5, F), np.array(3, F)
        nodes += [
            Node(op.Round(low=-3, high=252, divisor=0.5), (i,)),
            Node(op.Conv2D(kernel=kernel, pads=(1, 1, 1, 1)), (i + 1,)),
            Node(op.Affine(scale=rng.normal(size=40).astype(F) / 500), (i + 2,)),
            Node(op.Affine(scale=scale, shift=shift), (i + 1,)),
            Node(op.Merge(function="add"), (i + 4, i + 3)),
        ]
    nodes += [Node(op.Round(low=0, high=255), (10,)), Node(dense(-8, 7, 40), (11,))]
    graph = PackedGraph(((4, 5, 40),), tuple(nodes), (12,))
    x = rng.normal(size=(2, 4, 5, 40)).astype(F) * 30
    assert check(graph, x).isdisjoint({"AFFINE", "ADD", "ADD_CODES"})


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
