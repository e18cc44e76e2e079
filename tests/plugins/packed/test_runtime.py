"""The runtime: without Keras, of any batch, and what it is given checked."""

import subprocess
import sys
import textwrap

import numpy as np
import pytest

import qframe as qf
from packed_graphs import chain, sign
from qframe.deployment.graph import operations as op
from qframe.errors import ArgumentError, DataError
from qframe_packed import files
from qframe_packed.graph import Node, PackedGraph
from qframe_packed.packing import PackedTensor
from qframe_packed.runtime import Runtime

pytestmark = pytest.mark.pure
KERNEL = PackedTensor.of(np.where(np.arange(24).reshape(3, 8) % 3, 1, -1))
AFFINE = op.Affine(scale=np.array([1, 2, 3], np.float32))
GRAPH = chain((8,), sign(), op.Dense(kernel=KERNEL), AFFINE)
X = np.random.default_rng(0).normal(size=(70, 8))


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "m.safetensors"
    path.write_bytes(files.encode(GRAPH))
    return path


def test_load_and_predict(saved):
    runtime = qf.packed.load(saved)
    assert runtime.input_shapes == ((8,),)
    assert runtime.output_shapes == ((3,),)
    signs = np.where(X >= 0, 1, -1)
    expected = signs @ KERNEL.integers().T * [1, 2, 3]
    actual = runtime.predict(X)
    assert actual.dtype == np.float32
    np.testing.assert_array_equal(actual, expected)
    for count in (0, 1, 31, 33):
        np.testing.assert_array_equal(runtime.predict(X[:count]), expected[:count])


@pytest.mark.parametrize("engine", ["numba", "numpy"])
def test_an_empty_batch(engine):
    kernel = np.ones((4, 2, 2, 3), np.float32)
    graph = chain((4, 5, 3), op.Conv2D(kernel=kernel), op.MaxPool(), sign())
    assert Runtime(graph, engine).predict(np.ones((0, 4, 5, 3))).shape == (0, 1, 2, 4)


BLOCKED = ["keras", "tensorflow", "jax", "torch", "h5py", "rich", "click"]


@pytest.mark.parametrize("engine", ["numba", "numpy"])
def test_no_keras(saved, engine):
    """In a process in which Keras and its backends cannot be imported."""
    blocked = [*BLOCKED, "numba"] if engine == "numpy" else BLOCKED
    code = f"""
        import sys

        sys.modules.update(dict.fromkeys({blocked!r}))
        import numpy as np
        import qframe as qf

        runtime = qf.packed.load({str(saved)!r})
        print(runtime.predict(np.ones((2, 8))).tolist())
        print(runtime.engine, *[name for name in {blocked!r} if sys.modules[name]])
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    predicted, used = done.stdout.splitlines()
    sums = (KERNEL.integers().sum(axis=1) * [1, 2, 3]).astype(float).tolist()
    assert predicted == str([sums, sums])
    assert used == engine


def test_without_safetensors(saved, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(qf.errors.PluginError, match="pip install 'keras-qframe"):
        qf.packed.load(saved)


@pytest.mark.parametrize(
    ("x", "why"),
    [
        (np.ones((2, 7)), r"shape \(batch, 8\), found \(2, 7\)"),
        (np.ones(8), r"shape \(batch, 8\), found \(8,\)"),
        (np.ones((2, 8, 1)), r"found \(2, 8, 1\)"),
        (np.float32(1), r"found \(\)"),
        (np.ones((2, 8), complex), "real numbers, found complex128"),
        (np.full((2, 8), "a"), "real numbers, found <U1"),
        (None, "real numbers, found object"),
        ([[1.0] * 8, [1.0]], "predict takes arrays"),
    ],
)
def test_wrong_input(x, why):
    with pytest.raises(ArgumentError, match=why):
        Runtime(GRAPH).predict(x)


@pytest.mark.parametrize("dtype", ["uint8", "int64", "float16", "float64", "bool"])
def test_any_real_dtype(dtype):
    x = np.ones((2, 8), dtype)
    np.testing.assert_array_equal(
        Runtime(GRAPH).predict(x), Runtime(GRAPH).predict(x.astype("float32"))
    )


def test_several_inputs_and_outputs():
    nodes = (Node(op.Merge(function="subtract"), (0, 1)), Node(sign(), (2,)))
    runtime = Runtime(PackedGraph(((2,), (2,)), nodes, (2, 3)))
    a, b = np.ones((40, 2)), np.full((40, 2), 3)
    difference, signs = runtime.predict([a, b])
    assert (difference == -2).all()
    assert (signs == -1).all()
    assert signs.dtype == np.float32
    assert difference.shape == signs.shape == (40, 2)
    with pytest.raises(ArgumentError, match="a list of 2 arrays, found ndarray"):
        runtime.predict(np.ones((2, 2)))
    with pytest.raises(ArgumentError, match="batches of one size, found 40, 1"):
        runtime.predict([a, b[:1]])


def test_nan_is_below_every_threshold():
    runtime = Runtime(chain((2,), sign()))
    assert runtime.predict(np.array([[np.nan, 0.0]])).tolist() == [[-1, 1]]


def test_summary():
    texts = []
    Runtime(GRAPH).summary(print_fn=texts.append)
    (text,) = texts
    rows = [line.strip("| ").split() for line in text.splitlines()]
    assert ["layer1", "dense", "1", "1", "3", "3", "numpy"] in rows
    assert ["layer2", "affine", "5", "-", "3", "12", "numpy"] in rows
    assert ["Total", "19"] in rows


def test_a_notebook_shows_the_summary():
    html = Runtime(GRAPH)._repr_html_()
    assert html.startswith("<table>")
    assert "layer2" in html


def test_a_wrong_graph_is_refused():
    with pytest.raises(DataError, match="it takes 8 numbers"):
        Runtime(chain((7,), op.Dense(kernel=KERNEL)))


FUNCTIONS = {
    "hard_sigmoid": ([-4, 0, 1.5, 4], [0, 0.5, 0.75, 1]),
    "leaky_tanh": ([-2, 0.5, 3], [-1.2, 0.5, 1.4]),
    "sigmoid": ([-1000, 0, 1000], [0, 0.5, 1]),
    "softmax": ([1000, 1000, -1000], [0.5, 0.5, 0]),
    "softplus": ([-1000, 0, 1000], [0, np.log(2), 1000]),
    "softsign": ([-3, 0, 1], [-0.75, 0, 0.5]),
}


@pytest.mark.parametrize("function", FUNCTIONS)
def test_functions_far_out(function):
    x, expected = FUNCTIONS[function]
    graph = chain((len(x),), op.Activation(function=function, alpha=0.2))
    np.testing.assert_allclose(Runtime(graph).predict([x])[0], expected, atol=1e-7)


def test_pools_know_what_is_padded():
    x = -np.arange(1, 10, dtype=np.float32).reshape(1, 3, 3, 1)
    pads = (0, 1, 0, 1)
    (largest, mean) = (
        Runtime(chain((3, 3, 1), kind(pads=pads))).predict(x)[0, ..., 0]
        for kind in (op.MaxPool, op.AveragePool)
    )
    assert largest.tolist() == [[-1, -3], [-7, -9]]
    assert mean.tolist() == [[-3, -4.5], [-7.5, -9]]
