"""How the compiled engine is run: batches, threads, memory, what it keeps, what it says."""

import copy
import io
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
import textwrap
import threading
import time
import tracemalloc
from pathlib import Path

import attrs
import numpy as np
import pytest

import qframe as qf
from packed_graphs import chain, computed, sign
from qframe.deployment.graph import operations as op
from qframe.errors import ArgumentError, PluginError
from qframe_packed import files
from qframe_packed.compiled.engine import Engine, Session
from qframe_packed.graph import Node, PackedGraph
from qframe_packed.packing import PackedTensor
from qframe_packed.runtime import Runtime

pytestmark = pytest.mark.pure
F = np.float32
RNG = np.random.default_rng(0)


def floats(*shape):
    return RNG.normal(size=shape).astype(F)


def signs(*shape):
    return PackedTensor.of(RNG.choice([-1, 1], shape))


# A float layer, binary ones with a residual between them, and a head: most kernels.
SAME = {"pads": (1, 1, 1, 1)}
NETWORK = PackedGraph(
    ((9, 8, 3),),
    (
        Node(op.Conv2D(kernel=floats(16, 3, 3, 3), **SAME), (0,), "stem"),
        Node(op.Affine(scale=floats(16), shift=floats(16)), (1,), "norm"),
        Node(sign(), (2,), "signs"),
        Node(op.Conv2D(kernel=signs(16, 3, 3, 16), **SAME), (3,), "binary"),
        Node(op.Affine(scale=floats(16)), (4,), "rescale"),
        Node(op.Merge(function="add"), (2, 5), "add"),
        Node(sign(thresholds=F([-1, 0, 2]), low=0, step=1), (6,), "levels"),
        Node(op.MaxPool(), (7,), "pool"),
        Node(op.Conv2D(kernel=signs(12, 2, 2, 16)), (8,), "two_bits"),
        Node(op.Affine(scale=floats(12)), (9,), "scale"),
        Node(op.GlobalPool(function="average"), (10,), "mean"),
        Node(op.Dense(kernel=floats(5, 12)), (11,), "dense"),
        Node(op.Activation(function="softmax"), (12,), "softmax"),
    ),
    (13, 6),
)
# The inputs of "signs" and of "levels", which both depend on the order of additions.
ROUNDED = attrs.evolve(NETWORK, outputs=(2, 6))


def clear(x):
    """Which samples have no number so near a threshold that rounding decides."""
    of_signs, of_levels = computed(ROUNDED, x)
    distance = np.abs(np.stack([of_signs, of_levels, of_levels + 1, of_levels - 2]))
    return distance.min(axis=(0, 2, 3, 4)) > 1e-4


X = RNG.normal(size=(200, 9, 8, 3)).astype(F)
X = X[clear(X)][:130]
EXPECTED = computed(NETWORK, X)


@pytest.fixture(scope="module")
def runtime():
    return Runtime(NETWORK, "numba")


def equal(actual, expected):
    for output, target in zip(actual, expected, strict=True):
        np.testing.assert_array_equal(output, target)


@pytest.mark.parametrize("count", [0, 1, 2, 63, 64, 65, 130])
def test_batches(runtime, count):
    """A sample gives the same bits in each batch, and with each number of threads."""
    actual = runtime.predict(X[:count])
    for output, target, reference in zip(actual, runtime.predict(X), EXPECTED, strict=True):
        np.testing.assert_array_equal(output, target[:count])
        np.testing.assert_allclose(output, reference[:count], rtol=1e-5, atol=1e-5)
    for threads in (2, 5):
        equal(runtime.predict(X[:count], threads=threads), actual)


@pytest.mark.parametrize("dtype", ["uint8", "int64", "float16", ">f4", "float64", "bool"])
def test_any_real_dtype(runtime, dtype):
    x = (3 * X[:4]).astype(dtype)
    equal(runtime.predict(x), runtime.predict(x.astype(F)))


def test_any_layout_in_memory(runtime):
    x = X[:6]
    expected = runtime.predict(x)
    frozen = x.copy()
    frozen.flags.writeable = False
    wide = np.zeros((12, 9, 16, 4), F)
    wide[::2, :, 1::2, 1:] = x
    for other in (
        np.asfortranarray(x),
        wide[::2, :, 1::2, 1:],
        np.ascontiguousarray(x[::-1, :, ::-1])[::-1, :, ::-1],
        np.frombuffer(b" " + x.tobytes(), np.uint8)[1:].view(F).reshape(x.shape),
        frozen,
    ):
        equal(runtime.predict(other), expected)
    equal(runtime.predict(np.broadcast_to(x[:1], x.shape)), runtime.predict(x[[0] * 6]))


def test_outputs_belong_to_the_caller(runtime):
    first = runtime.predict(X[:3])
    saved_copy = [array.copy() for array in first]
    runtime.predict(X[3:6])
    equal(first, saved_copy)


def test_python_threads_share_a_runtime(runtime):
    parts = [X[i::4] for i in range(4)]
    expected = [runtime.predict(part) for part in parts]
    start, failures = threading.Barrier(4), []

    def run(index):
        start.wait()
        try:
            for turn in range(12):
                equal(runtime.predict(parts[index], threads=1 + turn % 2), expected[index])
        except BaseException as error:
            failures.append(error)

    workers = [threading.Thread(target=run, args=(i,)) for i in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert failures == []


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda runtime: pickle.loads(pickle.dumps(runtime))]
)
def test_a_copy_has_memory_of_its_own(runtime, copied):
    expected = runtime.predict(X[:9], threads=3)
    other = copied(runtime)
    assert not other._engine._free
    equal(other.predict(X[:9], threads=3), expected)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no process is forked here")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_process_has_threads_of_its_own(saved):
    """In a process that has used threads, and has no others than these."""
    code = """
        import os, sys
        import numpy as np
        import qframe as qf

        runtime, x = qf.packed.load(sys.argv[1]), np.load(sys.argv[2])
        expected = runtime.predict(x, threads=2)
        child = os.fork()
        if child == 0:
            same = np.array_equal(runtime.predict(x, threads=2)[0], expected[0])
            os._exit(0 if same else 1)
        assert os.waitpid(child, 0)[1] == 0
        print("[]")
    """
    assert script(code, saved, saved.with_name("x.npy")) == []


def test_python_goes_on_while_a_kernel_runs():
    """A kernel that kept the GIL would let another thread go on only once it is done."""
    schedule = Engine(chain((24, 24, 8), op.Conv2D(kernel=floats(64, 9, 9, 8)))).schedule
    (run,) = Session(schedule, 300).runs
    run(1)  # compiled
    turns, running = 0, True

    def count():
        nonlocal turns
        while running:
            time.sleep(0.0005)  # lets the GIL go, and asks for it again
            turns += 1

    counter = threading.Thread(target=count)
    counter.start()
    actual = []
    # A machine that is busy may not let that thread run at once.
    while max(actual, default=0) <= 10 and len(actual) < 100:
        before = turns
        run(300)
        actual.append(turns - before)
    running = False
    counter.join()
    assert max(actual) > 10


@pytest.mark.parametrize("threads", [0, -1, 1.5, True, "2", None])
def test_wrong_threads(threads):
    for engine in ("numba", "numpy"):
        with pytest.raises(ArgumentError, match="threads is a whole number from 1 on"):
            Runtime(chain((3,), sign()), engine).predict(np.ones((1, 3)), threads)


@pytest.mark.parametrize("batch", [1, 64, 500])
def test_a_prediction_allocates_its_outputs_only(batch):
    engine = Engine(NETWORK)
    x = np.resize(X, (batch, *X.shape[1:]))
    engine.predict([x])
    outputs = sum(4 * batch * int(np.prod(a.shape[1:])) for a in EXPECTED)
    tracemalloc.start()
    try:
        engine.predict([x])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert outputs <= peak < outputs + 2**13


def test_memory_is_shared_by_tensors_and_known(runtime):
    """What a thread keeps is less than its tensors would take one beside the other."""
    engine = Engine(NETWORK)
    total = sum(buffer.size for buffer in engine.schedule.buffers)
    one = engine.memory_bytes / engine.samples
    assert max(buffer.size for buffer in engine.schedule.buffers) < one < 0.8 * total


def test_samples_of_a_part_fit_the_cache_without_what_passes_through():
    """Inputs and outputs that one step reads or writes are not read again."""
    kernel = PackedTensor.of(RNG.integers(-128, 128, (1024, 1024)))
    steps = op.Round(low=-100, high=155), op.Dense(kernel=kernel), op.Affine()
    assert Engine(chain((1024,), *steps)).samples == 64
    # An image that is read twice stays, and so do tensors between steps.
    twice = (Node(op.Affine(), (0,)), Node(op.GlobalPool(function="average"), (0,)))
    assert Engine(PackedGraph(((64, 64, 32),), twice, (1, 2))).samples == 1
    # Arrays that are not float32 are copied to their places, which take memory.
    assert Engine(chain((64, 64, 64), op.Affine())).samples == 1


# In processes of their own: what is there before anything is compiled.

SCRIPT = """
    import json, sys
    import numpy as np
    import qframe as qf
    from numba.core import caching

    found, load = [], caching.FunctionCache.load_overload

    def counted(*arguments):
        result = load(*arguments)
        found.append(result is not None)
        return result

    caching.FunctionCache.load_overload = counted
    runtime = qf.packed.load(sys.argv[1])
    loaded = len(found)
    assert runtime.warm_up() is runtime
    warm = len(found)
    x = np.load(sys.argv[2])
    one, two = (runtime.predict(x, threads=n)[1].tolist() for n in (1, 2))
    counts = loaded, warm, len(found), sum(found)
    print(json.dumps([runtime.engine, *counts, one == two]))
"""


def script(code, *arguments, **environment):
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "m.safetensors"
    path.write_bytes(files.encode(NETWORK))
    np.save(tmp_path / "x.npy", X[:20])
    return path


@pytest.mark.long  # everything is compiled once more
def test_kernels_are_kept_for_other_processes(saved, tmp_path):
    cache = tmp_path / "kept"

    def run():
        actual = script(SCRIPT, saved, tmp_path / "x.npy", NUMBA_CACHE_DIR=str(cache))
        return actual, {p: p.stat().st_mtime_ns for p in cache.rglob("*") if p.is_file()}

    (engine, before, warm, after, hits, same), written = run()
    assert (engine, before, hits, same) == ("numba", 0, 0, True)
    # All was compiled in `warm_up`, and nothing later.
    assert warm == after > 0
    assert written
    (_, before, warm, after, hits, same), again = run()
    assert (before, same) == (0, True)
    assert hits == warm == after > 0
    assert again == written


def test_only_what_a_model_needs_is_compiled():
    functions = Engine(chain((3, 3, 8), op.GlobalPool(function="average"))).schedule
    assert [f.name for f in functions.functions] == ["pooling.Mean.run"]


@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize("seconds", [0.0, 1.0])
def test_what_takes_long_is_said_on_a_terminal(monkeypatch, capsys, terminal, seconds):
    from qframe_packed.compiled import notices

    stream = io.StringIO()
    stream.isatty = lambda: terminal
    monkeypatch.setattr("sys.stderr", stream)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(notices, "PATIENCE", 0.05 if seconds else 60)
    with notices.noticed("Compiling"):
        end = time.monotonic() + (60 if terminal else 1) * seconds
        while not stream.getvalue() and time.monotonic() < end:
            time.sleep(0.01)
    assert ("Compiling" in stream.getvalue()) is (terminal and seconds > 0)
    assert capsys.readouterr().out == ""


def test_what_is_kept_is_of_these_kernels(tmp_path):
    """Another version does not find what this one compiled, whatever the dates of files."""
    from qframe_packed.compiled import functions, program, tiles

    folder = Path(functions.__file__).parent
    for path in folder.glob("*.py"):
        shutil.copy(path, tmp_path)
    digest = functions.digest(tmp_path)
    source = program.PROGRAM.compiled.py_func
    assert source.__qualname__ == f"program.run_{digest}"
    other = tmp_path / Path(tiles.__file__).name
    other.write_text(other.read_text("utf-8") + "# changed\n", "utf-8")
    assert functions.digest(tmp_path) != digest


def test_sums_are_written_in_the_place_of_what_was_added():
    """So that a chain of residual blocks needs the room of one tensor of floats."""
    kernel = signs(64, 1, 1, 64)

    def network(count):
        nodes, last = [], 0
        for _ in range(count):
            size = len(nodes)
            nodes += [
                Node(sign(), (last,)),
                Node(op.Conv2D(kernel=kernel), (size + 1,)),
                Node(op.Affine(), (size + 2,)),
                Node(op.Merge(function="add"), (size + 3, last)),
            ]
            last = len(nodes)
        return PackedGraph(((32, 32, 64),), tuple(nodes), (last,))

    one, four = (Engine(network(count)) for count in (1, 4))
    tensor = 4 * 32 * 32 * 64 * one.samples
    assert four.samples == one.samples
    # Between floats there may be a gap too small for the bits of the next block.
    assert tensor < one.memory_bytes <= four.memory_bytes < 1.05 * one.memory_bytes
    x = RNG.normal(size=(3, 32, 32, 64)).astype(F)
    equal(four.predict([x]), computed(network(4), x))


def test_without_numba(saved):
    code = """
        import json, sys
        import numpy as np
        sys.modules["numba"] = None
        import qframe as qf

        runtime = qf.packed.load(sys.argv[1])
        found = [a.tolist() for a in runtime.warm_up().predict(np.load(sys.argv[2]))]
        try:
            qf.packed.load(sys.argv[1], engine="numba")
        except qf.errors.PluginError as error:
            print(json.dumps([runtime.engine, found, str(error)]))
    """
    engine, actual, error = script(code, saved, saved.parent / "x.npy")
    assert engine == "numpy"
    for output, target in zip(actual, EXPECTED, strict=True):
        np.testing.assert_allclose(output, target[:20], rtol=1e-6)
    assert error.endswith("pip install 'keras-qframe[packed]'")


def test_numba_that_may_not_compile(saved, monkeypatch):
    monkeypatch.setattr("numba.config.DISABLE_JIT", 1)
    assert qf.packed.load(saved).engine == "numpy"
    with pytest.raises(PluginError, match="NUMBA_DISABLE_JIT says not to"):
        qf.packed.load(saved, engine="numba")


def test_engines(saved):
    assert qf.packed.load(saved).engine == "numba"
    for name in ("numba", "numpy"):
        assert qf.packed.load(saved, engine=name).engine == name
    for wrong in ("Numba", "", 3):
        with pytest.raises(ArgumentError, match=f"numba and numpy, found {wrong!r}"):
            qf.packed.load(saved, engine=wrong)


def rows_of(runtime, **arguments):
    """The cells of the rows of the summary by the name of the layer; a time is the last."""
    texts = []
    runtime.summary(print_fn=texts.append, **arguments)
    (text,) = texts
    # The name, the operation, and what is not in a column of its own by one blank.
    actual = [re.split(r"\s{2,}", line.strip("| ")) for line in text.splitlines()]
    return {row[0]: row[1:] for row in actual if len(row) > 1}


def test_summary(runtime):
    kernels = {name: row[-1] for name, row in rows_of(runtime).items()}
    assert re.fullmatch("spread, (lookup|popcount) 1 x 1", kernels["binary"])
    assert re.fullmatch("(.*, )?spread, (lookup|popcount) 2 x 1", kernels["two_bits"])
    assert re.fullmatch(r"surround, float x \d+", kernels["stem"])
    assert kernels["mean"] == "mean"
    assert kernels["softmax"] == "softmax"
    # Done by the kernel of the product before them: the bytes come last.
    assert kernels["norm"] == "128"
    assert kernels["add"] == "0"
    assert rows_of(Runtime(NETWORK))["norm"][-1] == "numpy"


def test_profile(runtime):
    rows = rows_of(runtime, profile=True)
    times = {node.name: float(rows[node.name][-2]) for node in NETWORK.nodes}
    assert times["norm"] == times["add"] == 0
    assert times["binary"] > 0
    assert float(rows["Total"][-1]) == pytest.approx(sum(times.values()), abs=1)
    with_share = {node.name for node in NETWORK.nodes if rows[node.name][-1] != "-"}
    assert with_share == {"stem", "binary", "two_bits", "dense"}
    with pytest.raises(ArgumentError, match="engine='numba'"):
        Runtime(NETWORK).summary(profile=True)


def test_a_profile_is_of_noise(monkeypatch):
    """Noise in an image that is large enough to be read where it is."""
    sessions, bind = [], Session.bind

    def bound(session, steps):
        sessions.append(session)
        return bind(session, steps)

    monkeypatch.setattr(Session, "bind", bound)
    Engine(chain((64, 64, 2), op.Activation(function="relu"))).seconds(batch=1, repeats=1)
    (port,) = sessions[-1]._inputs
    assert port.memory.array(port.buffer, F).mean() > 0.4
