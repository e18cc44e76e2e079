"""Graphs on the compiled engine: as in NumPy, to the bit where sums are exact."""

import attrs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from packed_checks import BAD, F, check, halves, integers, levels, per_channel
from packed_graphs import adds_exactly, chain, graphs, inputs_of, names_of, sign
from qframe.errors import DataError
from qframe_packed import operations as op
from qframe_packed.compiled.engine import Engine
from qframe_packed.graph import Graph, Node
from qframe_packed.packing import Packed
from qframe_packed.rewriting import RULES, lowered
from qframe_packed.values import Value

pytestmark = pytest.mark.pure


@pytest.mark.parametrize("rules", [(), RULES], ids=["as drawn", "rewritten"])
def test_graphs(rules):
    """Equal to the bit where float32 holds all sums; close where it rounds them."""
    seen = set()

    @given(graphs(dyadic=True))
    @settings(max_examples=100)
    def run(graph):
        graph = lowered(graph, rules)
        for x in inputs_of(graph, 7):
            exact = adds_exactly(graph, x)
            # A number beside a threshold may be on its other side.
            if exact or "quantize" not in names_of(graph):
                seen.update((kind, exact) for kind in check(graph, x, exact=exact))

    run()
    both = {"float", "depthwise", "surround", "chain", "pool of floats", "AFFINE", "STORE"}
    both |= {"LEAKY_RELU", "HARD_TANH", "ADD"}
    exact = {"bits 1 x 1", "bits 2 x 2", "spread", "unpack", "PLANES"}
    exact |= {"pool of bits"} if rules else set()
    assert seen >= {(kind, True) for kind in both | exact} | {
        (kind, False) for kind in both
    }


@st.composite
def products(draw):
    """A quantizer, a product with integers, and often another quantizer."""
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    pick = lambda *choices: int(rng.choice(choices))  # noqa: E731
    channels, outputs = pick(1, 3, 8, 31, 64, 65, 250), pick(1, 7, 8, 33, 64, 70, 130)
    low, step = pick(-8, -1, 0, 0, 3, 5000), pick(1, 1, 2, 5)
    count = pick(2, 2, 3, 4, 7, 8, 13, 16)
    first = op.Quantize(thresholds=np.arange(1, count) - F(0.5), low=low, step=step)
    high = low + step * (count - 1)
    of = pick(-8, -1, 0, 50) + pick(1, 1, 2, 7) * np.arange(pick(1, 2, 2, 3, 4, 8, 11, 16))
    of = (of, of, np.array([-1, 1]), np.array([-3, 0, 3]))[pick(*range(4))]
    if pick(*range(4)) == 0:
        product = op.Dense(kernel=Packed.of(rng.choice(of, (outputs, channels))))
    else:
        size, dilation = rng.integers(1, 4, 2), rng.integers(1, 3, 2)
        pads = [pick(*range((s - 1) * d + 1)) for s, d in zip(size, dilation, strict=True)]
        product = op.Conv2D(
            kernel=Packed.of(rng.choice(of, (outputs, *size, channels))),
            strides=tuple(map(int, rng.integers(1, 3, 2))),
            dilation=tuple(map(int, dilation)),
            pads=(pads[0], 0, pick(0, pads[1]), pads[1]),
            pad=float(pick(-1, 0, 1, low, high, high + 3)),
        )
    shape = (int(rng.integers(5, 8)), int(rng.integers(5, 8)), channels)
    after = [op.Affine(scale=rng.normal(size=outputs).astype(F)), per_channel(outputs)]
    x = rng.integers(-1, count + 1, (2, *shape)).astype(F)
    return chain(shape, first, product, *after[: draw(st.integers(0, 2))]), x


def test_products_of_integers():
    """1 to 4 bits by 1 to 4 bits, ternary, constant, large: all are equal to the bit."""
    seen = set()

    @given(products())
    @settings(max_examples=150)
    def run(case):
        seen.update(check(*case))

    run()
    several = {f"bits {x} x {w}" for x in range(1, 5) for w in range(1, 6)}
    assert seen >= {"bits 1 x 1", "bits 4 x 5", "float", "numpy", "PLANES"}
    assert len(seen & several) > 15


def test_many_items():
    """More than bytes count, which is 60 items of 4 bits; more than 16-bit numbers do."""
    for channels in (240, 244, 480, 2100, 2**16 - 1, 2**16 + 8):
        kernel = Packed.of(np.ones((3, channels), int) - 2 * np.eye(3, channels, dtype=int))
        graph = chain((channels,), sign(), op.Dense(kernel=kernel))
        for value in (-1, 1):
            x = np.full((2, channels), value, F)
            assert check(graph, x) >= {"bits 1 x 1" if channels < 2**16 else "float"}
            assert (
                Engine(graph).predict([x])[0].tolist() == [[value * (channels - 2)] * 3] * 2
            )


SMALL = (4, 3, 9)


def _small(rng):
    """An operation that keeps the shape; all of them take floats, and some integers."""
    size = int(rng.integers(1, 4))
    kernel = integers(9, size, size, 9, seed=int(rng.integers(99)))
    around = (size - 1, 0, 0, size - 1)
    direction = rng.choice([-1, 1], 9).astype(np.int8)
    pool = {"strides": (1, 1), "pads": (0, 1, 1, 0), "direction": direction}
    scale, shift = rng.choice([-1, 0.25, 0.5], 9).astype(F), rng.choice([-1.5, 0, 2], 9)
    choices = (
        *[op.Conv2D(kernel=kernel, pads=around, pad=float(rng.choice([-1, 0, 1])))] * 3,
        op.Affine(scale=scale, shift=shift.astype(F)),
        op.Activation(function="relu", most=4),
        *(
            sign(direction=direction),
            levels(4, -1),
            levels(17),
            per_channel(9, low=0, step=1),
        ),
        *(op.MaxPool(**pool), op.Reshape(shape=SMALL), op.Pad(pads=(0, 0, 0, 0))),
        *[op.Merge(function=str(rng.choice(["add", "subtract", "average", "maximum"])))]
        * 3,
    )
    return choices[rng.integers(len(choices))]


@st.composite
def networks(draw):
    """Tensors of one shape, each read and returned any number of times."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    values, nodes = [Value(SMALL)] * 2, []
    for _ in range(draw(st.integers(1, 12))):
        operation = _small(rng)
        count = (
            1
            if operation.arity
            else 2 + (operation.function == "add" and rng.random() < 0.3)
        )
        # Most read what was computed shortly before.
        back = rng.integers(1, rng.choice([2, 4, 20]), count)
        read = tuple(int(max(len(values) - b, 0)) for b in back)
        if isinstance(operation, op.Quantize) and values[read[0]].span:
            if not np.isfinite(operation.thresholds).all():
                continue
            edges = operation.thresholds.round().astype(np.int32)
            operation = attrs.evolve(operation, thresholds=edges)
        try:
            values.append(operation.infer(*(values[i] for i in read)))
        except DataError:
            continue
        nodes.append(Node(operation, read, operation.name))
    outputs = rng.choice(len(values), int(rng.integers(1, 4)))
    return Graph((SMALL, SMALL), tuple(nodes), tuple(map(int, outputs)))


def test_networks_of_any_form():
    """What is read where, and when, and its place in memory, are right."""
    exact = []

    @given(networks())
    @settings(max_examples=150)
    def run(graph):
        x = halves(2, *SMALL), halves(2, *SMALL, seed=1)
        exact.append(adds_exactly(graph, *x))
        if exact[-1]:
            check(graph, *x)

    run()
    assert np.mean(exact) > 0.8


@given(graphs(dyadic=True), st.integers(0, 99))
@settings(max_examples=60)
def test_numbers_that_are_not_finite(graph, seed):
    """They go where they go in NumPy."""
    rng = np.random.default_rng(seed)
    x = halves(4, *graph.inputs[0])
    some = np.where(rng.random(x.shape) < 0.1, rng.choice(BAD, x.shape), x)
    for bad in (some, np.full_like(x, rng.choice(BAD))):
        with np.errstate(invalid="ignore"):
            exact = adds_exactly(graph, bad)
        if exact:
            check(graph, bad)
