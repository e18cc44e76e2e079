"""Inputs and outputs that kernels use where they are, and others that are copied."""

import threading

import numpy as np
import pytest

from guarded_arrays import guarded
from packed_checks import F, check, conv, halves, integers
from packed_graphs import chain, computed, sign
from qframe.deployment.graph import operations as op
from qframe_packed.compiled import ports
from qframe_packed.compiled.engine import Engine, Session
from qframe_packed.compiled.memory import Memory
from qframe_packed.graph import Node, PackedGraph

pytestmark = pytest.mark.pure
SHAPE = (6, 7, 8)
AFFINE = op.Affine(scale=np.arange(8, dtype=F))
SUM = op.Merge(function="add")
# The last step that reads the input is a sum, which could be written in its place.
RESIDUAL = PackedGraph(
    (SHAPE,),
    (
        Node(sign(), (0,)),
        Node(conv(integers(8, 3, 3, 8), pads=(1, 1, 1, 1)), (1,)),
        Node(op.Affine(), (2,)),
        Node(SUM, (3, 0)),
        Node(conv(integers(8, 1, 1, 8)), (4,)),
        Node(op.Affine(), (5,)),
        Node(SUM, (6, 4)),
    ),
    (7,),
)


@pytest.fixture
def any_size(monkeypatch):
    monkeypatch.setattr(ports, "LEAST", 0)


def session_of(graph, samples=4):
    session = Session(Engine(graph).schedule, samples)
    session._memory._bytes.view(F)[:] = np.inf
    return session


def run(session, *inputs):
    count = len(inputs[0])
    outputs = [np.empty((count, *port.shape), F) for port in session._outputs]
    session.run([*inputs], outputs)
    return [output.reshape(count, -1) for output in outputs]


def numbers(port):
    return port.memory.array(port.buffer, F)


@pytest.mark.usefixtures("any_size")
def test_plain_arrays_are_not_copied():
    session, x = session_of(chain(SHAPE, AFFINE)), halves(9, *SHAPE)
    (actual,) = run(session, guarded(x.shape, x))
    np.testing.assert_array_equal(actual, (x * AFFINE.scale).reshape(9, -1))
    for port in (*session._inputs, *session._outputs):
        assert np.isinf(numbers(port)).all()


def test_small_arrays_are_copied():
    """To find their addresses would take longer."""
    session, x = session_of(chain(SHAPE, AFFINE)), halves(4, *SHAPE)
    (actual,) = run(session, x)
    np.testing.assert_array_equal(numbers(session._inputs[0]), x.reshape(-1))
    np.testing.assert_array_equal(numbers(session._outputs[0]), actual.reshape(-1))


def test_predict_of_a_small_batch_after_a_large_one_returns_another_array():
    """The large one is written where it is returned, and the small ones are copies."""
    engine, x = Engine(chain(SHAPE, AFFINE)), halves(30, *SHAPE)
    first = engine.predict([x[:1]])[0]
    batches = [engine.predict([x[:count]])[0] for count in (30, 1, 2, 30, 1)]
    np.testing.assert_array_equal(first, x[:1] * AFFINE.scale)
    for batch in batches:
        np.testing.assert_array_equal(batch, x[: len(batch)] * AFFINE.scale)


@pytest.mark.usefixtures("any_size")
def test_arrays_of_any_kind_follow_one_another():
    """One that is copied is not read where the one before it was."""
    session = session_of(RESIDUAL, samples=2)
    for seed, count in enumerate((1, 2, 5, 4, 3, 2, 5, 1)):
        x = halves(count, *SHAPE, seed=seed)
        wide = np.zeros((2 * count, 6, 7, 9), F)
        wide[::2, :, :, 1:] = x
        bytes_between = np.frombuffer(b" " + x.tobytes(), np.uint8)[1:].view(F)
        others = [x, wide[::2, :, :, 1:], x.astype("f8"), np.asfortranarray(x)]
        others += [x.astype(">f4"), bytes_between.reshape(x.shape)]
        for given in (others[seed % len(others)], x):
            (actual,) = run(session, given)
            (expected,) = computed(RESIDUAL, x)
            np.testing.assert_array_equal(actual, expected.reshape(count, -1))


ALIASES = {
    "an input": ((), (0,)),
    "an input, reshaped": ((Node(op.Reshape(shape=(336,)), (0,)),), (1, 0)),
    "twice": ((Node(AFFINE, (0,)),), (1, 1)),
    "read again": (
        (Node(AFFINE, (0,)), Node(op.Activation(function="relu"), (1,)), Node(SUM, (1, 2))),
        (1, 3, 2),
    ),
    "computed by NumPy": ((Node(op.Activation(function="tanh"), (0,)),), (1,)),
    "read by NumPy": (
        (Node(AFFINE, (0,)), Node(op.Activation(function="tanh"), (1,))),
        (1, 2),
    ),
}


@pytest.mark.usefixtures("any_size")
@pytest.mark.parametrize("case", ALIASES)
def test_outputs_that_something_else_uses(case):
    nodes, outputs = ALIASES[case]
    graph, x = PackedGraph((SHAPE,), nodes, outputs), halves(9, *SHAPE)
    engine = Engine(graph)
    for threads in (1, 2):
        actual = engine.predict([guarded(x.shape, x)], threads)
        for output, expected in zip(actual, computed(graph, x), strict=True):
            np.testing.assert_array_equal(output, expected)
        assert not any(np.shares_memory(output, x) for output in actual)


@pytest.mark.usefixtures("any_size")
def test_no_address_remains_of_an_interrupted_prediction(monkeypatch):
    engine, move = Engine(chain(SHAPE, AFFINE)), Memory.move
    x, other = halves(1, *SHAPE), halves(2, *SHAPE)

    def interrupted(*arguments):
        move(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Memory, "move", interrupted)
        with pytest.raises(KeyboardInterrupt):
            engine.predict([x])
    # Not a plain array, so that it is copied.
    (found,) = engine.predict([other.astype(np.float64)])
    np.testing.assert_array_equal(found, computed(engine.graph, other)[0])


@pytest.mark.usefixtures("any_size")
def test_threads_read_their_own_arrays():
    engine = Engine(RESIDUAL)
    given = [halves(7, *SHAPE, seed=seed) for seed in range(4)]
    expected = [computed(RESIDUAL, x)[0] for x in given]
    start, wrong = threading.Barrier(4), []

    def work(index):
        start.wait()
        for turn in range(20):
            (actual,) = engine.predict([given[index]], 1 + turn % 2)
            if not np.array_equal(actual, expected[index]):
                wrong.append(index)

    workers = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert wrong == []


@pytest.mark.parametrize("channels", [1, 3, 8, 12, 15, 16, 17, 24, 31, 32, 40, 65])
@pytest.mark.parametrize("groups", ["one", "each"])
def test_stages_that_lead_to_codes_stay_within_arrays(channels, groups):
    """They read whole registers, of inputs too, and of outputs that they add."""
    each, of = groups == "each", range(-7, 8)
    kernel = integers(channels, 3, 3, 1 if each else channels, of=of)
    affine = op.Affine(scale=np.resize(F([0.5, -1, 2]), channels))
    nodes = (
        Node(op.Round(low=-100, high=100), (0,)),
        Node(conv(kernel, pads=(1, 1, 1, 1), groups=channels if each else 1), (1,)),
        Node(affine, (2,)),
        Node(SUM, (3, 0)),
        Node(op.Activation(function="relu"), (4,)),
        Node(op.Round(low=0, high=200, divisor=2.0), (5,)),
        Node(conv(integers(channels, 1, 1, channels, of=of)), (6,)),
        Node(affine, (7,)),
        Node(SUM, (8, 5)),
        Node(op.Round(low=0, high=99), (9,)),
        Node(op.Dense(kernel=integers(2, channels, of=of)), (10,)),
    )
    x = halves(2, 3, 2, channels)
    for outputs in ((11,), (5, 11), (9, 6), (3, 0, 10)):
        check(PackedGraph((x.shape[1:],), nodes, outputs), x)
