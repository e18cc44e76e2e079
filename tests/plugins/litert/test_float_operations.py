"""Each operation on floats in a LiteRT file: the runtime beside the graph in NumPy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("ai_edge_litert", reason="in the environment `tests`")

from litert_files import BUILTIN, XNNPACK, interpret, read
from litert_floats import CASES, drawn
from litert_graphs import F, expected, quantizer, written
from qframe.deployment.graph import operations as op
from qframe.deployment.graph.fused import Fused
from qframe.deployment.graph.graph import Graph, Node
from qframe.deployment.graph.kernels import Kernel
from qframe.deployment.graph.reference import tensors_of
from qframe.errors import ExportError

pytestmark = pytest.mark.pure


@pytest.mark.parametrize("name", CASES)
@settings(max_examples=4)
@given(seed=st.integers(0, 2**32 - 1))
def test_float_operation_equals_the_graph(name, seed):
    graph, inputs = drawn(name, seed)
    content = written(graph, floats="keep")
    dtypes = {tensor.dtype for tensor in read(content).tensors}
    assert dtypes <= {"float32", "int32", "bool"}
    reference = expected(graph, inputs)
    for kernels in (XNNPACK, BUILTIN):
        (found,) = interpret(content, inputs, kernels)
        scale = np.abs(reference).max(initial=1)
        np.testing.assert_allclose(found, reference, 1e-5, 2e-6 * scale, err_msg=kernels)


def chain(*operations, shape=(4,)):
    """A graph of operations, each of which reads the one before."""
    nodes = [Node(operation, (i,), f"layer_{i}") for i, operation in enumerate(operations)]
    return Graph((shape,), tuple(nodes), (len(nodes),))


def run_on(graph, x, **settings):
    """What both kinds of kernels return for floats."""
    content = written(graph, floats="keep", inputs="float", outputs="float", **settings)
    return [interpret(content, [x], kernels)[0] for kernels in (XNNPACK, BUILTIN)]


def function_of(name, scale, quantize):
    return Fused(op.Activation(name), (scale,), quantize=quantize)


@pytest.mark.parametrize("dtype", ["int8", "int16"])
def test_integers_become_floats_and_integers_again(dtype):
    low, high = np.iinfo(dtype).min + (dtype == "int16"), np.iinfo(dtype).max
    reader = quantizer(2.0**-5, 0, low, high)
    writer = quantizer(2.0**-6, 0, low, high)
    norm = Fused(op.Normalize((1,), 1e-3), (reader.scale,), quantize=writer)
    graph = chain(reader, norm, op.Dequantize(writer.scale))
    x = np.random.default_rng(0).normal(size=(3, 4)).astype(F)
    reference = tensors_of(graph, x)[-1]
    for found in run_on(graph, x, activations=dtype):
        np.testing.assert_allclose(found, reference, atol=1e-6)
    codes = read(written(graph, floats="keep", activations=dtype)).codes
    # -2^15 is not on the grid of 16 bits.
    if dtype == "int16":
        assert codes.pop(0) == "MAXIMUM"
    assert codes[0] == "DEQUANTIZE"
    assert codes[-1] == "QUANTIZE"


@pytest.mark.parametrize(
    "quantize",
    [quantizer(0.5), quantizer(0.5, -128), quantizer(0.5, 0, -3, 4)],
    ids=["symmetric", "from 0 on", "three bits"],
)
def test_floats_beyond_all_integers_saturate(quantize):
    """The built-in QUANTIZE overflows at 2^31 steps, and knows the ends of a type alone."""
    x = F([[1e12, -1e12], [1e38, -1e38], [60, -63], [2.2, -2.2]])
    graph = chain(op.Affine(F(4)), quantize, op.Dequantize(quantize.scale), shape=(2,))
    span = quantize.grid.span
    with np.errstate(over="ignore"):
        reference = np.clip(np.rint(4 * x / F(0.5)), span.low, span.high)
    for found in run_on(graph, x):
        np.testing.assert_array_equal(found, reference * F(0.5))


def test_signs_of_floats_are_chosen_by_their_threshold():
    sign = op.Quantize(thresholds=F([0.25]))
    graph = chain(op.Affine(F(2)), sign, op.Dequantize())
    x = F([[0.125, 0.1249, -3, 1e20]])
    for found in run_on(graph, x):
        np.testing.assert_allclose(found, [[1, -1, -1, 1]], 1e-6)


@pytest.mark.parametrize(
    "quantize", [quantizer(0.5, 0, -3, 4), op.Quantize(thresholds=F([0.25]))]
)
def test_float_inputs_are_quantized_to_few_levels(quantize):
    graph = chain(quantize, op.Dequantize(quantize.scale))
    x = F([[0.3, -0.8, 5, -1e12]])
    content = written(graph, inputs="float", outputs="float")
    for kernels in (XNNPACK, BUILTIN):
        (found,) = interpret(content, [x], kernels)
        np.testing.assert_allclose(found, tensors_of(graph, x)[-1], 1e-6)


def test_a_tensor_of_several_float_readers_is_dequantized_once():
    reader = quantizer(0.1)
    nodes = (
        Node(reader, (0,), "read"),
        Node(op.Dequantize(reader.scale), (1,), "read"),
        Node(op.Activation("gelu"), (2,), "a"),
        Node(op.Activation("exponential"), (2,), "b"),
        Node(function_of("relu", reader.scale, reader), (1,), "integers"),
        Node(op.Dequantize(reader.scale), (5,), "integers"),
    )
    file = read(written(Graph(((4,),), nodes, (3, 4, 6)), floats="keep"))
    assert file.codes.count("DEQUANTIZE") == 1
    assert [file.tensors[i].dtype for i in file.inputs] == ["int8"]
    assert [file.tensors[i].dtype for i in file.outputs] == ["float32", "float32", "int8"]


def test_an_index_that_is_a_number_too_is_cut_to_an_integer():
    table = np.arange(6, dtype=F).reshape(3, 2)
    nodes = Node(op.Lookup(table), (0,), "rows"), Node(op.Activation("square"), (0,), "f")
    content = written(Graph(((2,),), nodes, (1, 2)), floats="keep")
    rows, squares = interpret(content, [F([[2.5, 1]])], BUILTIN)
    np.testing.assert_array_equal(rows, [[[4, 5], [2, 3]]])
    np.testing.assert_array_equal(squares, [[6.25, 1]])


def test_sums_of_integers_that_are_moved_are_real_numbers():
    """The padding of a convolution of integers is in their steps."""
    reader, kernel = quantizer(0.25), Kernel(np.full((2, 1, 1, 1), 3), F([0.5, 2]))
    conv = op.Conv2D(kernel, pads=(0, 0, 0, 0))
    padded = op.Conv2D(Kernel(np.ones((1, 2, 2, 1), int), F(1)), pads=(1, 1, 1, 1), pad=2.0)
    x = F([[[[1], [-2]], [[0.5], [3]]]])
    steps = op.Reshape((4, 2)), op.Dequantize(F([0.125, 0.5]))
    for found in run_on(chain(reader, conv, *steps, shape=(2, 2, 1)), x):
        np.testing.assert_allclose(found[0], x.reshape(4, 1) * [1.5, 6], 1e-6)
    graph = chain(reader, padded, op.Dequantize(0.25), shape=(2, 2, 1))
    for found in run_on(graph, x):
        # Three numbers of the border around a corner, 0.5 each.
        np.testing.assert_allclose(found[0, 0, 0], [1 + 1.5], 1e-6)
        np.testing.assert_allclose(found, tensors_of(graph, x)[-1], 1e-6)


@pytest.mark.parametrize("kernels", [XNNPACK, BUILTIN])
def test_a_loop_begins_with_zeros_in_every_run(kernels):
    """The operators of the runtime for sequences keep their state instead."""
    rng = np.random.default_rng(0)
    loop = op.Recurrence(
        "lstm",
        rng.normal(size=(12, 3)).astype(F),
        activation=op.Activation("tanh"),
        gate=op.Activation("sigmoid"),
    )
    content = written(chain(loop, shape=(4, 12)), floats="keep")
    x, other = rng.normal(size=(2, 5, 4, 12)).astype(F)
    (alone,) = interpret(content, [x], kernels)
    (second,) = interpret(content, [x], kernels, before=[other])
    np.testing.assert_array_equal(second, alone)


def test_a_loop_of_too_many_steps_is_refused_with_the_cure():
    loop = op.Recurrence("simple_rnn", np.ones((1, 1), F))
    file = read(written(chain(loop, shape=(300, 1)), floats="keep"))
    assert file.codes.count("FULLY_CONNECTED") == 300
    # All of them read the same weights.
    weights = {o.inputs[1] for o in file.operators if o.code == "FULLY_CONNECTED"}
    assert len(weights) == 1
    with pytest.raises(ExportError, match=r"2049 steps.* and 2048 are the most\. Give it"):
        written(chain(loop, shape=(2049, 1)), floats="keep")
