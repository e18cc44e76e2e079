"""Graphs on the compiled engine: as in NumPy, to the bit where sums are exact."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples import settings
from packed_checks import BAD, F, assert_drawn, check, halves, levels, per_channel
from packed_graphs import adds_exactly, chain, graphs, inputs_of, names_of, sign
from packed_networks import networks
from qframe.deployment.graph import operations as op
from qframe_packed.compiled import operands
from qframe_packed.compiled.elementwise import FUNCTIONS
from qframe_packed.compiled.engine import Engine
from qframe_packed.graph import Node, PackedGraph
from qframe_packed.packing import PackedTensor
from qframe_packed.rewriting import RULES, simplify

pytestmark = pytest.mark.pure


@pytest.mark.parametrize("rules", [(), RULES], ids=["as drawn", "rewritten"])
def test_graphs(rules, monkeypatch):
    """Equal to the bit where float32 holds all sums; close where it rounds them."""
    seen = set()
    # A processor chooses between bits and codes by what it has instructions for.
    monkeypatch.setattr(operands, "MOST_PRODUCTS", 4)

    @given(graphs(dyadic=True))
    @settings(max_examples=150)
    def run(graph):
        graph = simplify(graph, rules)
        for x in inputs_of(graph, 7):
            exact = adds_exactly(graph, x)
            # A number beside a threshold may be on its other side.
            if exact or "quantize" not in names_of(graph):
                seen.update((kind, exact) for kind in check(graph, x, exact=exact))

    run()
    both = {"float", "depthwise", "surround", "chain", "pool of floats", "AFFINE", "STORE"}
    both |= {"LEAKY_RELU", "HARD_TANH", "ADD"}
    exact = {"bits 1 x 1", "bits 2 x 2", "spread", "unpack", "PACK"}
    exact |= {"pool of bits"} if rules else set()
    rounded = {(kind, False) for kind in both}
    assert_drawn(seen, {(kind, True) for kind in both | exact} | rounded)


def test_the_sign_of_zero():
    """The sign of a zero, by what is divided by it."""
    nodes = (
        Node(op.Round(low=-1, high=1), (0,)),
        Node(op.Affine(scale=F([-1, 1, 0.5])), (1,)),
        Node(op.Affine(), (1,)),
        Node(op.PReLU(alpha=F([-0.5, 0.5, 0])), (3,)),
        Node(op.Merge(function="divide"), (0, 2)),
        Node(op.Merge(function="divide"), (0, 4)),
    )
    check(PackedGraph(((3,),), nodes, (5, 6)), F([[0.25, -0.25, 0.5], [-0.5, 0.3, 2]]))


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
        product = op.Dense(kernel=PackedTensor.of(rng.choice(of, (outputs, channels))))
    else:
        size, dilation = rng.integers(1, 4, 2), rng.integers(1, 3, 2)
        pads = [pick(*range((s - 1) * d + 1)) for s, d in zip(size, dilation, strict=True)]
        product = op.Conv2D(
            kernel=PackedTensor.of(rng.choice(of, (outputs, *size, channels))),
            strides=tuple(map(int, rng.integers(1, 3, 2))),
            dilation=tuple(map(int, dilation)),
            pads=(pads[0], 0, pick(0, pads[1]), pads[1]),
            pad=float(pick(-1, 0, 1, low, high, high + 3)),
        )
    shape = (int(rng.integers(5, 8)), int(rng.integers(5, 8)), channels)
    after = [op.Affine(scale=rng.normal(size=outputs).astype(F)), per_channel(outputs)]
    x = rng.integers(-1, count + 1, (2, *shape)).astype(F)
    return chain(shape, first, product, *after[: draw(st.integers(0, 2))]), x


def test_products_of_integers(monkeypatch):
    """1 to 4 bits by 1 to 4 bits, ternary, constant, large: all are equal to the bit."""
    seen = set()
    # However much longer they take than products of codes.
    monkeypatch.setattr(operands, "MOST_PRODUCTS", 99)

    @given(products())
    @settings(max_examples=150)
    def run(case):
        seen.update(check(*case))

    run()
    several = {f"bits {x} x {w}" for x in range(1, 5) for w in range(1, 6)}
    assert_drawn(seen, {"bits 1 x 1", "bits 4 x 5", "numpy", "PACK"})
    assert len(seen & several) > 8


def test_many_items():
    """More than bytes count, which is 60 items of 4 bits; more than 16-bit numbers do."""
    for channels in (240, 244, 480, 2100, 2**16 - 1, 2**16 + 8):
        kernel = PackedTensor.of(
            np.ones((3, channels), int) - 2 * np.eye(3, channels, dtype=int)
        )
        graph = chain((channels,), sign(), op.Dense(kernel=kernel))
        for value in (-1, 1):
            x = np.full((2, channels), value, F)
            assert check(graph, x) >= {"bits 1 x 1" if channels < 2**16 else "codes"}
            assert (
                Engine(graph).predict([x])[0].tolist() == [[value * (channels - 2)] * 3] * 2
            )


# An operation for each step of a chain that is not a copy.
STEPS = {
    "AFFINE": op.Affine(scale=F([2] * 16), shift=F([1] * 16)),
    "RELU": op.Activation(function="relu", most=1),
    "LEAKY_RELU": op.Activation(function="relu", alpha=0.5),
    "CLIP": op.Activation(function="clip", least=-0.5, most=1),
    "HARD_SIGMOID": op.Activation(function="hard_sigmoid"),
    "HARD_SILU": op.Activation(function="hard_silu"),
    "HARD_TANH": op.Activation(function="hard_tanh"),
    "LEAKY_TANH": op.Activation(function="leaky_tanh", alpha=0.5),
    "PRELU": op.PReLU(alpha=np.full((1, 1, 16), 0.5, F)),
    "ADD": op.Merge(function="add"),
    "SUBTRACT": op.Merge(function="subtract"),
    "SUBTRACT_FROM": op.Merge(function="subtract"),
    "MULTIPLY": op.Merge(function="multiply"),
    "DIVIDE": op.Merge(function="divide"),
    "DIVIDE_FROM": op.Merge(function="divide"),
    "MAXIMUM": op.Merge(function="maximum"),
    "MINIMUM": op.Merge(function="minimum"),
    "AVERAGE": op.Merge(function="average"),
    "LEVELS": op.Quantize(thresholds=F([*range(-20, 0), *range(9, 20)])),
    "EVEN_LEVELS": levels(32),
    "PACK": sign(),
}


@pytest.mark.parametrize("code", STEPS)
def test_a_chain_leaves_its_source_to_other_readers(code):
    """Channels that fill the room to work in could be worked on where they are."""
    assert {*STEPS} == {name.upper() for name in FUNCTIONS} | {
        "LEVELS",
        "EVEN_LEVELS",
        "PACK",
    }
    shape, operation = (3, 2, 16), STEPS[code]
    read = (0, 1) if isinstance(operation, op.Merge) else (0,)
    if code.endswith("_FROM"):
        # A chain goes on from what is computed last, which is the second here.
        first = op.MaxPool(pool=(1, 1), strides=(1, 1))
        nodes = (Node(first, (0,)), Node(operation, (1, 2)))
    else:
        nodes = (Node(operation, read),)
    last = 1 + len(nodes)
    after = Node(op.Affine(), (last,)), Node(op.Merge(function="add"), (last + 1, 0))
    graph = PackedGraph((shape, shape), (*nodes, *after), (0, 1, last, last + 2))
    assert code in check(graph, halves(3, *shape), halves(3, *shape, seed=1))


def test_networks_of_any_form():
    """What is read where, and when, and its place in memory, are right."""
    exact, seen, channels = [], set(), set()

    @given(networks())
    @settings(max_examples=200)
    def run(graph):
        shape = graph.inputs[0]
        x = halves(2, *shape), halves(2, *shape, seed=1)
        exact.append(adds_exactly(graph, *x))
        if exact[-1]:
            channels.add(shape[-1] % 8 == 0)
            seen.update(check(graph, *x))

    run()
    assert np.mean(exact) > 0.7
    assert channels == {True, False}
    kinds = {"PACK", "LEVELS", "EVEN_LEVELS", "ADD", "STORE", "chain"}
    assert_drawn(seen, kinds)


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


@given(networks(whole_products=True), st.integers(0, 2**32))
@settings(max_examples=100)
def test_all_but_sums_of_floats_is_equal_to_the_bit(graph, seed):
    """For any float32 number: the smallest, the largest, and those that are not finite."""
    rng = np.random.default_rng(seed)
    shape = (2, *graph.inputs[0])
    x = [rng.integers(0, 2**32, shape, np.uint32).view(F) for _ in graph.inputs]
    with np.errstate(all="ignore"):
        check(graph, *x)
