"""How much a file may ask for: known, and refused, before anything is computed."""

import re
import sys
import tracemalloc

import numpy as np
import pytest

import qframe as qf
from packed_checks import F, conv, halves, integers, kinds, levels, peak
from packed_graphs import chain, sign
from qframe.deployment.graph import operations as op
from qframe.deployment.graph import reference
from qframe.errors import ArgumentError, DataError
from qframe_packed import files
from qframe_packed.compiled import engine
from qframe_packed.compiled.engine import Engine
from qframe_packed.graph import Node, PackedGraph
from qframe_packed.interpreter import Interpreter
from qframe_packed.limits import Limits, cost_of
from qframe_packed.packing import PackedTensor
from qframe_packed.runtime import Runtime

pytestmark = pytest.mark.pure
SIDE = 2**13


def every_tensor_at_once():
    """50 tensors of 256 MiB, all of which the last one is computed from."""
    nodes = [Node(op.Affine(scale=F(2)), (i,)) for i in range(50)]
    nodes.append(Node(op.Merge(function="add"), tuple(range(50))))
    return PackedGraph(((SIDE, SIDE, 1),), tuple(nodes), (51,))


def large_pool():
    pool = op.MaxPool(pool=(3000, 3000), strides=(1, 1))
    return chain((6000, 6000, 1), pool)


def large_padding():
    most = 2**16
    pads = (most - 1,) * 4
    return chain((1, 1, 1), op.MaxPool(pool=(most, most), strides=(most, most), pads=pads))


def large_table():
    thresholds = np.arange(5000, dtype=F)
    return chain((2**20,), op.Quantize(thresholds=thresholds))


def many_edges():
    """Each window reaches beyond the image in a way of its own."""
    kernel = PackedTensor.of(np.resize([1, -1], (1, 255, 255, 1)))
    return chain((100, 100, 1), sign(), op.Conv2D(kernel=kernel, pads=(254,) * 4))


def many_thresholds():
    thresholds = np.arange(5000, dtype=F)
    return chain((SIDE, 2000, 1), op.Quantize(thresholds=thresholds))


GREEDY = {
    "every tensor at once": (every_tensor_at_once, "memory"),
    "a large pool": (large_pool, "work"),
    "large padding": (large_padding, "memory"),
    "a large table": (large_table, "memory"),
    "many edges": (many_edges, "memory"),
    "many thresholds": (many_thresholds, "work"),
}


@pytest.mark.parametrize("name", ["numba", "numpy"])
@pytest.mark.parametrize("case", GREEDY)
def test_a_small_file_that_asks_for_too_much_is_refused(case, name, tmp_path):
    make, what = GREEDY[case]
    path = tmp_path / "m.safetensors"
    path.write_bytes(files.encode(make()))
    assert path.stat().st_size < 100_000
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="for one sample, and the limit is") as caught:
            qf.packed.load(path, name)
        assert tracemalloc.get_traced_memory()[1] < 4 * 2**20
    finally:
        tracemalloc.stop()
    asked = re.search(rf"qframe\.packed\.load\(path, {what}=(\d+)\)", str(caught.value))
    assert int(asked[1]) > getattr(Limits(), what)


def test_a_limit_can_be_raised_as_the_error_says(tmp_path):
    graph = chain((8, 8, 3), conv(halves(4, 3, 3, 3)))
    path, cost = tmp_path / "m.safetensors", cost_of(graph)
    path.write_bytes(files.encode(graph))
    for limits in ({"memory": cost.memory - 1}, {"work": cost.work - 1}):
        with pytest.raises(DataError) as caught:
            qf.packed.load(path, "numpy", **limits)
        name, value = re.search(r"path, (\w+)=(\d+)", str(caught.value)).groups()
        assert (name, int(value)) == (*limits, getattr(cost, name))
        qf.packed.load(path, "numpy", **{name: int(value)})


def test_an_engine_that_needs_more_is_refused():
    """The compiled engine keeps room for a few pixels, whatever the model is."""
    graph = chain((8,), op.Affine(scale=F(2)))
    cost = cost_of(graph)
    Runtime(graph, "numpy", Limits(cost.memory, cost.work))
    with pytest.raises(DataError, match="MiB of memory for one sample"):
        Runtime(graph, "numba", Limits(cost.memory, cost.work))


@pytest.mark.parametrize("wrong", [0, -1, 1.5, True, None, "2"])
@pytest.mark.parametrize("name", ["memory", "work"])
def test_wrong_limits(name, wrong, tmp_path):
    with pytest.raises(ArgumentError, match=f"{name} is a whole number from 1 on, found"):
        qf.packed.load(tmp_path / "absent", **{name: wrong})


IMAGE = (40, 30, 24)
COSTLY = {
    "conv2d": conv(halves(40, 3, 3, 24), pads=(1, 1, 1, 1)),
    "groups": conv(integers(48, 3, 3, 1), groups=24, pads=(2, 0, 0, 2)),
    "depthwise": conv(integers(24, 5, 5, 1), groups=24, pads=(4, 4, 4, 4)),
    "dense": op.Dense(kernel=halves(100, 24)),
    "affine": op.Affine(scale=F(2), shift=halves(24)),
    "quantize": sign(),
    "levels": levels(200),
    "few roundings": op.Round(low=-8, high=7),
    "roundings": op.Round(low=0, high=2**16 - 1),
    "max_pool": op.MaxPool(pool=(9, 9), strides=(1, 1), pads=(8, 8, 8, 8)),
    "average_pool": op.AveragePool(pool=(9, 9), strides=(1, 1), pads=(8, 8, 8, 8)),
    "mean": op.GlobalPool(function="average"),
    "softmax": op.Activation(function="softmax"),
    "tanh": op.Activation(function="tanh"),
    "prelu": op.PReLU(alpha=halves(1, 1, 24)),
    "reshape": op.Reshape(shape=(40 * 30 * 24,)),
    "slice": op.Slice(starts=(1, 2, 0), sizes=(20, 10, 8), steps=(1, 2, 3)),
    "transpose": op.Transpose(axes=(3, 1, 2)),
    "repeat": op.Repeat(axis=2, count=5),
    "resize": op.Resize(size=(100, 70)),
    "normalize": op.Normalize(axes=(3,), epsilon=1e-3),
    "gelu": op.Activation(function="gelu"),
    "pad": op.Pad(pads=(30, 30, 30, 30)),
}
BITS = {
    "signs": conv(integers(40, 3, 3, 24), pads=(1, 1, 1, 1)),
    "rounded": conv(integers(40, 3, 3, 24), pads=(1, 1, 1, 1)),
    "edges": conv(integers(40, 7, 7, 24), pads=(6, 6, 6, 6), pad=0),
    "large": conv(integers(4, 3, 3, 24, of=np.arange(-9, 9) * 999), pads=(1, 1, 1, 1)),
}


@pytest.mark.parametrize("case", [*COSTLY, *BITS])
def test_memory_is_in_proportion_to_what_was_counted(case, monkeypatch):
    """Of planning, and of one sample on each engine; temporaries are a few times that."""
    monkeypatch.setattr(reference, "_MOST_FACTORS", 2**12)
    first = op.Round(low=-8, high=7) if case == "rounded" else sign()
    steps = (COSTLY[case],) if case in COSTLY else (first, BITS[case])
    graph, x = chain(IMAGE, *steps), halves(1, *IMAGE)
    counted = cost_of(graph).memory
    engines, base = [], 2**18
    assert peak(lambda: engines.append(Engine(graph))) < 4 * counted + base
    assert engines[0].least_bytes < 2 * counted + base
    engines[0].predict([x])
    assert peak(lambda: Interpreter(graph).predict([x])) < 8 * counted + base


def test_windows_of_a_long_row_are_not_laid_out_at_once():
    """A row of 2,049 windows of 2,048 numbers, of which each sum needs one."""
    kernel = integers(1, 1, 2048, 1)
    graph = chain((1, 4096 * 4, 1), conv(kernel))
    x = halves(1, 1, 4096 * 4, 1)
    assert peak(lambda: Interpreter(graph).predict([x])) < 2**22 * 14
    expected = np.convolve(x.reshape(-1), kernel.integers().reshape(-1)[::-1], "valid")
    np.testing.assert_array_equal(Interpreter(graph).predict([x])[0].reshape(-1), expected)


def test_a_program_runs_for_a_limited_time(monkeypatch):
    """It has fewer samples where one is much work, as it is not interrupted."""
    graph = chain((8,), op.Dense(kernel=halves(8, 8)))
    assert Engine(graph).samples > 3
    assert Engine(chain((8,))).samples > 3  # no work at all
    for count in (3, 1, 0.5):
        monkeypatch.setattr(engine, "_MOST_WORK", int(count * cost_of(graph).work))
        assert Engine(graph).samples == max(1, int(count))


def test_the_work_of_a_graph_is_that_of_its_operations():
    graph = chain((8, 8, 3), conv(halves(4, 3, 3, 3)), op.MaxPool(), levels(5))
    sizes = [8 * 8 * 3, 6 * 6 * 4, 3 * 3 * 4]
    products, pooled, compared = sizes[1] * 27, sizes[2] * 4, sizes[2] * 4
    least = products + pooled + compared + sum(sizes)
    assert least <= cost_of(graph).work < 1.5 * least


def test_a_rounding_has_thresholds_only_where_it_may_write_bits():
    def memory(*steps):
        return cost_of(chain((4, 4, 1000), *steps)).memory

    def round_(bits):
        return op.Round(low=0, high=2**bits - 1)

    table = 4 * 1000
    relu = memory(op.Activation(function="relu"))
    assert memory(round_(16)) == memory(round_(5)) == relu
    assert memory(round_(4)) > relu + 10 * table
    # Of 4 bits codes are made instead where the processor has dot products for them.
    for bits, kept in ((1, True), (5, False)):
        product = op.Dense(kernel=integers(8, 1000))
        engine = Engine(chain((4, 4, 1000), round_(bits), product))
        assert ("PACK" in kinds(engine)) is kept


def test_tensors_are_counted_while_they_are_needed():
    """A chain needs two at a time, whatever its length."""

    def memory(count):
        graph = chain((100, 100, 1), *[op.Activation(function="relu")] * count)
        return cost_of(graph).memory

    tensor = 4 * 100 * 100
    assert 2 * tensor <= memory(1) < memory(50) < 2.3 * tensor


# Graphs of n nodes.


def long_chain(n):
    return chain((8,), *[op.Affine(scale=F(2))] * n)


def residual_blocks(n):
    kernel, nodes = integers(8, 8), []
    for last in range(0, n, 4):
        nodes += [
            Node(sign(), (last,)),
            Node(op.Dense(kernel=kernel), (last + 1,)),
            Node(op.Affine(), (last + 2,)),
            Node(op.Merge(function="add"), (last + 3, last)),
        ]
    return PackedGraph(((8,),), tuple(nodes), (len(nodes),))


def many_readers(n):
    nodes = [Node(op.Dense(kernel=integers(8, 8)), (0,))]
    nodes += [Node(levels(2 + i % 40), (1,)) for i in range(n - 1)]
    return PackedGraph(((8,),), tuple(nodes), tuple(range(2, min(n, 900))))


def long_lives(first):
    """Half of the tensors are all kept until the other half is added to them."""

    def build(n):
        half = n // 2
        nodes = [Node(first, (i,)) for i in range(half)]
        for i in range(half):
            read = half + i, half - 1 - i
            nodes.append(Node(op.Merge(function="add"), read))
        return PackedGraph(((8,),), tuple(nodes), (2 * half,))

    return build


LONG = {
    "a chain": long_chain,
    "residual blocks": residual_blocks,
    "many readers": many_readers,
    "a chain with long lives": long_lives(op.Affine(scale=F(2))),
    "products with long lives": long_lives(op.Dense(kernel=halves(8, 8))),
}


def lines_of(run):
    """How many lines of Python run, which no other load of the machine changes."""
    count, before = 0, sys.gettrace()

    def watch(frame, event, argument):
        nonlocal count
        count += 1
        return watch

    sys.settrace(watch)
    try:
        run()
    finally:
        sys.settrace(before)
    return count


@pytest.mark.parametrize("case", LONG)
def test_planning_takes_time_in_proportion_to_the_nodes(case):
    def plan(graph):
        return lambda: (cost_of(graph), Engine(graph), Interpreter(graph))

    few, many = (lines_of(plan(LONG[case](n))) for n in (60, 240))
    assert many < 5 * few  # 16 times as many where it is quadratic


def test_a_graph_of_many_nodes_is_planned():
    """Deeper than Python calls functions."""
    graph = residual_blocks(4000)
    x = halves(1, 8)
    np.testing.assert_array_equal(
        Engine(graph).predict([x])[0], Interpreter(graph).predict([x])[0]
    )


def test_wrong_shapes_are_found_before_costs():
    with pytest.raises(DataError, match="it takes 8 numbers"):
        cost_of(PackedGraph(((7,),), (Node(op.Dense(kernel=halves(3, 8)), (0,)),), (1,)))
