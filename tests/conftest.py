"""The fixtures of every test, and the selection of tests in an environment."""

import collections
import gc
import os
import random
import sys
import textwrap
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

import local_mnist

# A failure must repeat, here and in CI: every run draws the same examples. To look for new
# ones, run `tox run -e shuffled`, or pytest with --hypothesis-profile=explore.
settings.register_profile("fixed", deadline=None, derandomize=True)
# Another backend or version fails where any numbers meet it: of the examples of the newest
# versions some will do.
settings.register_profile("fewer", settings.get_profile("fixed"), max_examples=30)
settings.register_profile("seeded", deadline=None)
settings.register_profile("explore", deadline=None, max_examples=1000)
settings.load_profile("fixed")
# For the same reason every module, fixture and test starts from one seed. Keras draws its
# own from `random` where it is first imported, and that of an initializer where it is
# made: in modules whose cases are layers, while pytest collects them.
SEED = int(os.environ.get("QFRAME_SEED", "0"))

# The environments of a test, by its mark. One without may fail on any version of Keras
# or its backend, and runs everywhere.
SHARES = {
    "pure": {"newest", "oldest", "packed", "quick"},
    "tensorflow": {"newest", "oldest"},
    "ends": {"newest", "oldest", "jax", "torch"},
    "once_per_backend": {"newest", "jax", "torch"},
    "two_backends": {"newest", "oldest", "torch"},
    "long": {"newest"},
    "elsewhere": {"oldest", "between", "jax", "torch"},
    "sample": {"oldest", "between"},
}
PLACES = ("newest", "oldest", "between", "jax", "torch", "packed", "quick")
FEWER = ("oldest", "between", "jax", "torch", "packed")
# Tests that pass on the ends of a row of versions may fail between them if they use what
# Keras changes: how layers are called, traced, trained and saved. These folders and modules
# are about that, and plugins, commands and reports are not.
BETWEEN = (
    *("callbacks", "deployment", "layers", "models", "observation", "optimizers", "passes"),
    "zoo",
    *("test_distillation.py", "test_environment.py", "test_keras_internals.py"),
    *("test_overrides.py", "test_context.py"),
)
# JAX compiles each operation anew for each shape, so that its tests take longest. These are
# about what reads a model and computes little, which PyTorch shows as well.
NOT_ON_JAX = (
    *("cli", "deployment", "models", "recipes", "registry", "reports", "testing"),
    *("test_docs.py", "test_overrides.py"),
)
# The most cases of a test: what they differ in is seldom what versions and backends differ
# in, or what a change breaks.
CASES = {"between": 1, "jax": 1, "oldest": 1, "quick": 6, "torch": 2}
# If each case is about other code, as those of conformance are, one in so many runs, drawn
# by its name: their order has a period.
DRAWN = {"jax": 4, "oldest": 2, "torch": 2}


def pytest_addoption(parser):
    parser.addoption(
        "--share",
        choices=PLACES,
        help="Run only what can differ in such an environment; without it, all tests run.",
    )


def pytest_configure(config):
    if config.getoption("share") in FEWER:
        settings.load_profile("fewer")


def pytest_collection_modifyitems(config, items):
    # An address would give a test another name in each process.
    unstable = [item.nodeid for item in items if " at 0x" in item.nodeid]
    if unstable:
        raise pytest.UsageError(f"{len(unstable)} ids have addresses, as {unstable[0]}")
    place = config.getoption("share")
    if not place:
        return
    absent = {mark for mark, places in SHARES.items() if place not in places}
    kept, left, all_cases, seen = [], [], collections.Counter(), collections.Counter()
    most = CASES.get(place, len(items))
    for item in items:
        marks = {mark.name for mark in item.iter_markers()}
        test = item.nodeid.partition("[")[0]
        if "every_case" in marks:
            another = zlib.crc32(item.nodeid.encode()) % DRAWN.get(place, 1) > 0
        else:
            another = seen[test] >= most
        for mark in item.iter_markers("one_case_in"):
            another |= all_cases[test] % mark.args[0] > 0
        all_cases[test] += 1
        chosen = not marks & absent and not another and not _is_left_out(item, place)
        if chosen:
            seen[test] += 1
        (kept if chosen else left).append(item)
    config.hook.pytest_deselected(items=left)
    items[:] = kept


def _is_left_out(item, place):
    """Return whether an environment leaves out the folder or module of a test."""
    package = item.path.relative_to(Path(__file__).parent).parts[0]
    if place == "between":
        return package not in BETWEEN
    return place == "jax" and package in NOT_ON_JAX


def pytest_collection_finish():
    """Spare the garbage collector what stays until the end: an eighth of all time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


def _seed():
    random.seed(SEED)
    if "keras" in sys.modules:
        import keras

        keras.utils.set_random_seed(SEED)


def pytest_collectstart():
    _seed()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup():
    """A fixture of a whole module is made before those of a test."""
    _seed()


@pytest.fixture(autouse=True)
def clean_session():
    """No test sees the layer names, policies or random numbers of another."""
    _seed()
    yield
    if "keras" in sys.modules:
        import keras

        # Without the garbage collection, which takes longer than most tests.
        keras.utils.clear_session(free_memory=False)
        keras.config.set_dtype_policy("float32")


@pytest.fixture
def install(tmp_path_factory, monkeypatch):
    """Put a distribution with one plugin on the path, for this process and others.

    The folder that it returns takes more modules; afterwards all of them are forgotten.
    """
    from qframe.registry.discovery import registry

    folders = []

    def write(namespace, source, distribution=None):
        folder = tmp_path_factory.mktemp("site")
        folders.append(folder)
        distribution = distribution or f"{namespace}-plugin"
        info = folder / f"{distribution.replace('-', '_')}-1.2.dist-info"
        info.mkdir()
        metadata = f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.2\n"
        (info / "METADATA").write_text(metadata)
        (info / "entry_points.txt").write_text(f"[qframe]\n{namespace} = {namespace}_m\n")
        (folder / f"{namespace}_m.py").write_text(textwrap.dedent(source), "utf-8")
        monkeypatch.syspath_prepend(str(folder))
        path = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
        monkeypatch.setenv("PYTHONPATH", path)
        registry.reset()
        return folder

    yield write
    monkeypatch.undo()
    written = {path.stem for folder in folders for path in folder.iterdir()}
    for module in [m for m in sys.modules if m.partition(".")[0] in written]:
        del sys.modules[module]
    registry.reset()


@pytest.fixture(scope="session")
def mnist():
    """A local copy of MNIST; nothing here downloads it."""
    path = local_mnist.find()
    if path is None:
        places = ", ".join(map(str, local_mnist.candidates()))
        pytest.skip(reason=f"no MNIST at {places}")
    return path


@pytest.fixture(scope="session")
def some_mnist(mnist, tmp_path_factory):
    """A file of a tenth of MNIST to train with, for what need not be trained well."""
    path = tmp_path_factory.mktemp("mnist") / "some.npz"
    with np.load(mnist) as arrays:
        parts = {"train": 6_000, "test": 1_000}
        some = {f"{k}_{p}": arrays[f"{k}_{p}"][:n] for p, n in parts.items() for k in "xy"}
    np.savez(path, **some)
    return path
