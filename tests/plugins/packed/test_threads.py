"""Samples that several threads share: the same bits, whoever comes, late or not at all."""

import os
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings

from packed_checks import F, integers
from packed_graphs import chain, graphs, inputs_of
from packed_teams import shared
from qframe.deployment.graph import operations as op
from qframe.deployment.graph import reference
from qframe_packed import files
from qframe_packed.compiled import atomics, helpers, program
from qframe_packed.compiled.engine import Engine
from qframe_packed.compiled.helpers import Helpers
from qframe_packed.compiled.memory import Buffer, Memory
from qframe_packed.compiled.program import Program
from qframe_packed.compiled.splitting import plan_of

pytestmark = pytest.mark.pure
RNG = np.random.default_rng(0)


def floats(*shape):
    return RNG.normal(size=shape).astype(F)


# Products of floats, of codes, of each channel and of bits, in two programs, between which
# NumPy works.
BITS = op.Quantize(thresholds=F([0]), low=-1, step=2)
CODES = op.Round(low=-128, high=127, divisor=0.25)
AROUND = {"pads": (1, 1, 1, 1)}
GRAPH = chain(
    (9, 7, 12),
    op.Conv2D(kernel=floats(24, 3, 3, 12), **AROUND),
    CODES,
    op.Conv2D(kernel=integers(24, 3, 3, 24, of=range(-9, 9)), **AROUND),
    op.Affine(scale=floats(24) / 99),
    CODES,
    op.Conv2D(kernel=integers(24, 3, 3, 1, of=range(-9, 9)), groups=24, **AROUND),
    op.Affine(scale=floats(24) / 99),
    op.Transpose(axes=(2, 1, 3)),
    BITS,
    op.Conv2D(kernel=integers(16, 3, 3, 24), **AROUND),
    op.Affine(scale=floats(16)),
    op.MaxPool(pool=(2, 2)),
    op.Activation(function="softmax"),
)
X = floats(3, *GRAPH.inputs[0])
EXPECTED = Engine(GRAPH).predict([X])[0]


@pytest.fixture
def engine():
    """An engine whose kernels are split as far as possible, on five cores."""
    with shared(5):
        yield Engine(GRAPH)


def predicts(engine, count=1, threads=3):
    (output,) = engine.predict([X[:count]], threads)
    np.testing.assert_array_equal(output, EXPECTED[:count])


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("threads", [2, 3, 5, 64])
@pytest.mark.parametrize("chunk", [1, 1_000, 5_000])
def test_predict_on_threads_gives_the_same_bits(threads, count, chunk):
    with shared(8, chunk):
        engine = Engine(GRAPH)
        for _ in range(5):
            predicts(engine, count, threads)


def test_more_threads_take_the_place_of_fewer():
    """The pools of other numbers do not stay."""
    engine, x = Engine(GRAPH), np.concatenate([X] * 3)
    for threads in (2, 5, 3, 7):
        (output,) = engine.predict([x], threads)
        np.testing.assert_array_equal(output, np.concatenate([EXPECTED] * 3))
    ((pool, most),) = engine._pools.values()
    assert pool._max_workers == most == 6


@given(graphs())
@settings(max_examples=25)
def test_predict_of_drawn_graphs_on_threads_gives_the_same_bits(graph):
    (x, _), engine = inputs_of(graph), Engine(graph)
    for count, threads in ((1, 2), (2, 5), (3, 3)):
        expected = engine.predict([x[:count]])
        with shared(5):
            actual = Engine(graph).predict([x[:count]], threads)
        for output, target in zip(actual, expected, strict=True):
            np.testing.assert_array_equal(output, target)


@pytest.mark.parametrize(
    ("count", "threads", "cores", "together"),
    [
        *((1, 2, 2, 2), (1, 4, 2, 2), (2, 3, 8, 3), (2, 4, 2, None), (3, 4, 8, None)),
        *((3, 5, 8, 5), (4, 2, 8, None), (1, 1, 8, None), (1, 4, 1, None), (0, 4, 8, None)),
    ],
)
def test_samples_are_shared_if_there_are_many_more_threads(count, threads, cores, together):
    engine = Engine(GRAPH)
    with (
        mock.patch("qframe_packed.compiled.engine.cores", return_value=cores),
        mock.patch("qframe_packed.compiled.engine.WORTH", 0),
        mock.patch.object(Program, "share", autospec=True) as share,
    ):
        engine.predict([X[:count]], threads)
    assert {call.args[1:] for call in share.call_args_list} == (
        {(count, together)} if together else set()
    )


def test_small_models_are_not_shared(engine):
    with (
        mock.patch.object(program, "WORTH", 1e9),
        mock.patch.object(Helpers, "offer") as offer,
    ):
        predicts(engine)
    offer.assert_not_called()


def test_helpers_that_never_come_are_not_missed(engine):
    with mock.patch.object(Helpers, "offer") as offer:
        predicts(engine)
    assert offer.call_count == 2 * sum(isinstance(s, Program) for s in engine._free[0].runs)


def test_helpers_that_come_too_late_change_nothing(engine):
    jobs = []
    with mock.patch.object(program.HELPERS, "offer", jobs.append):
        predicts(engine)
    memory = engine._free[0]._memory
    memory._bytes[:] = 77
    for job in jobs:
        job()
    assert (memory._bytes == 77).all()


def test_helpers_that_come_before_the_first_thread_go_again(engine):
    """As when an exception ends the first thread before it begins."""

    def interrupted(job):
        job()
        raise KeyboardInterrupt

    with (
        mock.patch.object(program.HELPERS, "offer", interrupted),
        pytest.raises(KeyboardInterrupt),
    ):
        engine.predict([X[:1]], 3)
    # Its memory is not used again, because it points to arrays that no longer exist.
    assert engine._free == []
    predicts(engine)


def test_an_exception_between_programs_leaves_no_thread_waiting(engine):
    with (
        mock.patch.object(reference, "run", side_effect=KeyboardInterrupt),
        pytest.raises(KeyboardInterrupt),
    ):
        engine.predict([X[:1]], 3)
    for _ in range(3):
        predicts(engine)


@pytest.fixture
def pool():
    """Helpers, of which none is started, and none has a job of another test."""
    pool = Helpers()
    with mock.patch.object(program, "HELPERS", pool):
        yield pool


@pytest.mark.parametrize("error", [RuntimeError("can't start new thread"), MemoryError()])
def test_a_thread_that_cannot_be_started_is_not_missed(engine, pool, error):
    with mock.patch.object(helpers._Helper, "start", side_effect=error) as start:
        predicts(engine)
    assert start.called
    assert not pool.all
    predicts(engine)
    assert pool.all


@pytest.mark.parametrize("error", [RuntimeError("can't start new thread"), MemoryError()])
@pytest.mark.parametrize("started", [0, 1])
def test_predict_of_a_batch_without_all_its_threads_is_complete(error, started):
    """Those that do start take the parts of the others."""
    engine, start, asked = Engine(GRAPH), threading.Thread.start, []

    def limited(thread):
        asked.append(thread)
        if len(asked) > started:
            # Not before, since a thread without work would be asked instead of another.
            for other in asked[:-1]:
                start(other)
            raise error

    with mock.patch.object(threading.Thread, "start", limited):
        (output,) = engine.predict([X], 3)
    assert len(asked) == started + 1
    np.testing.assert_array_equal(output, EXPECTED)
    # Work that the pool kept does nothing when a thread takes it later.
    output[:] = -1
    for _ in range(3):
        np.testing.assert_array_equal(engine.predict([X], 3)[0], EXPECTED)
    assert (output == -1).all()
    ((pool, _),) = engine._pools.values()
    assert len(pool._threads) <= 2


def test_predict_on_threads_raises_what_one_of_them_raises():
    engine, run = Engine(GRAPH), Engine._run

    def fails(self, inputs, outputs, threads=1):
        if threading.current_thread() is not threading.main_thread():
            raise MemoryError
        begun.wait(60)
        run(self, inputs, outputs, threads)

    begun = threading.Event()

    class Pool(ThreadPoolExecutor):
        """Its threads take a part before this one has taken the next."""

        def submit(self, *arguments):
            future = super().submit(*arguments)
            future.add_done_callback(lambda _: begun.set())
            return future

    pool = Pool(1)
    engine._pools[os.getpid()] = pool, 1
    with mock.patch.object(Engine, "_run", fails), pytest.raises(MemoryError):
        engine.predict([X], 2)
    pool.shutdown()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_helper_that_dies_is_replaced(engine, pool):
    dead, run = threading.Event(), Program._help

    def dies(self, samples, state, thread):
        if thread:
            dead.set()
            raise MemoryError
        run(self, samples, state, thread)

    with mock.patch.object(Program, "_help", dies):
        predicts(engine)
        assert dead.wait(60)
    for helper in [*pool.all]:
        helper.join(60)
    assert not pool.all
    assert not pool.idle
    predicts(engine)
    assert pool.all


def test_there_are_no_more_helpers_than_other_cores(pool):
    jobs, end = threading.Semaphore(0), threading.Event()

    def job():
        jobs.release()
        end.wait(60)

    with mock.patch.object(helpers, "cores", return_value=3):
        for _ in range(9):
            pool.offer(job)
    assert len(pool.all) == 2
    assert all(jobs.acquire(timeout=60) for _ in range(2))
    assert not jobs.acquire(blocking=False)
    assert all(helper.daemon for helper in pool.all)
    end.set()


def test_predictions_at_the_same_time_share_an_engine(engine):
    start, failures = threading.Barrier(4), []

    def run(count):
        start.wait()
        try:
            for turn in range(20):
                predicts(engine, count, 2 + turn % 3)
        except BaseException as error:
            failures.append(error)

    workers = [threading.Thread(target=run, args=(1 + i % 3,)) for i in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert failures == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no process is forked here")
def test_a_forked_process_starts_helpers_again(tmp_path):
    code = """
        import os, sys
        import numpy as np
        import qframe as qf
        from packed_teams import shared
        from qframe_packed.compiled.helpers import HELPERS

        x = np.load(sys.argv[2])
        with shared(3):
            runtime = qf.packed.load(sys.argv[1])
            expected = runtime.predict(x, threads=3)
            assert HELPERS.all
            child = os.fork()
            if child == 0:
                before = len(HELPERS.all) + len(HELPERS.idle)
                same = np.array_equal(runtime.predict(x, threads=3), expected)
                os._exit(0 if same and before == 0 and HELPERS.all else 1)
            assert os.waitpid(child, 0)[1] == 0
            assert np.array_equal(runtime.predict(x, threads=3), expected)
    """
    path = tmp_path / "m.safetensors"
    path.write_bytes(files.encode(GRAPH))
    np.save(tmp_path / "x.npy", X[:1])
    found = os.pathsep.join(filter(None, sys.path))
    done = subprocess.run(
        [sys.executable, "-Wignore", "-c", textwrap.dedent(code), path, tmp_path / "x.npy"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": found},
    )
    assert done.returncode == 0, done.stderr


def test_memory_beside_has_room_for_another_thread():
    tensor, first, second = Buffer(40).use(0), Buffer(0, 100).use(0), Buffer(0, 30).use(0)
    later = Buffer(0, 200).use(1)
    memory = Memory({tensor: 0, first: 64, second: 256, later: 64}, 1024, samples=1)
    buffers = tensor, first, second, later
    here, there = memory.numbers(buffers), memory.beside().numbers(buffers)
    assert there[0] == here[0]
    assert there[3] == there[1]
    assert there[2] >= there[1] + 100
    end = here[0] + 1024
    assert all(
        place + buffer.fixed <= here[0] or place >= end
        for place, buffer in zip(there[1:], buffers[1:], strict=True)
    )
    assert memory.numbers(buffers) == here


class Kernel:
    def __init__(self, cost, parts=1, grain=1):
        self.cost, self.parts, self.grain = cost, parts, grain


def test_plan_of_kernels():
    """Chunks are whole grains of near 5 microseconds, and small kernels are one chunk."""
    kernels = [
        *(Kernel(100), Kernel(100, 50), Kernel(25_000, 50, 4), Kernel(1e6, 10, 3)),
        *(Kernel(4_000, 50), Kernel(0, 3), Kernel(2_000, 8), Kernel(1e6)),
    ]
    all_ = 2**62
    assert plan_of(kernels).tolist() == [
        *([1, all_, 2], [50, all_, 1], [50, 8, 1], [10, 3, 1]),
        *([50, 50, 1], [3, all_, 2], [8, all_, 1], [1, 1, 1]),
    ]
    # Together they are not longer than a chunk.
    assert plan_of([Kernel(2_500)] * 5)[:, 2].tolist() == [2, 1, 2, 1, 1]


def test_a_wait_ends_with_the_number_or_after_some_sleeps():
    numbers = np.array([5, 0, *atomics.functions()], np.int64)
    address = numbers.ctypes.data
    assert atomics.wait(address, 5, address + 16, 0)
    assert not atomics.wait(address, 6, address + 16, 2)
    adding = threading.Timer(0.01, lambda: numbers.__setitem__(0, 6))
    adding.start()
    # It keeps the GIL, so that only the time of a release lets the other thread go on.
    while not atomics.wait(address, 6, address + 16, 1):
        adding.join(0.001)
