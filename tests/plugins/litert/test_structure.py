"""The bytes of LiteRT files, as a reader of the schema sees them."""

import numpy as np
import pytest

pytest.importorskip("tflite", reason="in the environment `tests`")
pytest.importorskip("ai_edge_litert", reason="in the environment `tests`")

from litert_cases import CASES
from litert_files import BUILTIN, REFERENCE, XNNPACK, interpret, read
from litert_graphs import KERNELS, expected, levels, quantizer, single, written
from qframe.deployment.graph import operations as op
from qframe.deployment.graph.graph import Graph, Node
from qframe.deployment.graph.kernels import Kernel
from qframe.errors import ExportError

pytestmark = pytest.mark.pure
F = np.float32


def drawn(name, seed=0, **settings):
    case = CASES[name]
    graph = case.graph(np.random.default_rng(seed))
    return graph, written(graph, **{**case.settings, **settings})


@pytest.mark.parametrize("name", CASES)
def test_file_has_integers_only_at_aligned_places(name):
    _, content = drawn(name)
    file = read(content)
    assert {tensor.dtype for tensor in file.tensors} <= {
        *("int4", "int8", "int16", "int32", "int64")
    }
    assert file.buffers[0] == (0, 0)
    for start, size in file.buffers[1:]:
        assert size
        assert start % 16 == 0
    assert all(tensor.name for tensor in file.tensors)


@pytest.mark.parametrize("name", CASES)
def test_same_graph_gives_same_bytes(name):
    assert drawn(name)[1] == drawn(name)[1]


def test_equal_constants_are_stored_once():
    reader = quantizer(0.1)
    pads = op.Pad((1, 1, 1, 1))
    nodes = Node(reader, (0,), "read"), Node(pads, (1,), "a"), Node(pads, (2,), "b")
    file = read(written(Graph(((3, 3, 2),), nodes, (3,))))
    first, second = (file.tensors[operator.inputs[1]] for operator in file.operators)
    assert first.buffer == second.buffer
    np.testing.assert_array_equal(first.data, second.data)


def test_weights_of_four_bits_take_half_the_bytes():
    _, content = drawn("dense, int4")
    kernel = next(t for t in read(content).tensors if t.dtype == "int4")
    size = read(content).buffers[kernel.buffer][1]
    assert size == -(-kernel.data.size // 2)
    assert np.abs(kernel.data).max() <= 7


def test_biases_of_int16_activations_have_64_bits():
    file = read(drawn("convolution, int16")[1])
    product = next(o for o in file.operators if o.code in ("CONV_2D", "DEPTHWISE_CONV_2D"))
    bias = file.tensors[product.inputs[2]]
    assert bias.dtype == "int64"
    x = file.tensors[product.inputs[0]]
    kernel = file.tensors[product.inputs[1]]
    np.testing.assert_allclose(bias.scale, x.scale * kernel.scale, rtol=1e-6)


def test_batch_is_any_number_or_the_given_one():
    graph, content = drawn("dense")
    file = read(content)
    x, y = file.tensors[file.inputs[0]], file.tensors[file.outputs[0]]
    assert x.signature[0] == y.signature[0] == -1
    assert x.shape[0] == 1
    for batch in (1, 4):
        inputs = levels(np.random.default_rng(1), graph, batch)
        (found,) = interpret(content, [inputs[0] + x.zero], XNNPACK)
        np.testing.assert_allclose(
            found.astype(int) - y.zero, expected(graph, inputs), atol=1
        )
    _, content = drawn("dense", batch=4)
    file = read(content)
    assert file.tensors[file.inputs[0]].signature[0] == 4
    assert file.tensors[file.outputs[0]].shape[0] == 4


# XNNPACK refuses it.
@pytest.mark.parametrize("kernels", [BUILTIN, REFERENCE])
def test_empty_batch_is_an_empty_result(kernels):
    graph, content = drawn("depthwise convolution")
    (found,) = interpret(content, levels(np.random.default_rng(0), graph, 0), kernels)
    assert found.shape[0] == 0


def test_products_beyond_16_bits_are_refused():
    """The built-in MUL returns the other end of the range."""
    readers = [quantizer(0.5, -128), quantizer(0.5, -128)]
    graph = single(op.Merge("multiply"), [(4,), (4,)], readers, quantizer(0.4, 127))
    with pytest.raises(ExportError, match="16 bits"):
        written(graph)


def test_resizing_of_16_bits_by_other_factors_than_powers_of_2_is_refused():
    x = quantizer(2.0**-10, 0, -(2**15) + 1, 2**15 - 1)
    graph = single(op.Resize((6, 4)), [(2, 2, 1)], [x], x)
    with pytest.raises(ExportError, match="activations=8"):
        written(graph, activations="int16")


def test_sums_of_256_steps_are_refused():
    """XNNPACK creates no runtime for such a file."""
    dense = op.Dense(Kernel(np.array([[100, -3], [1, 2]]), F([1.0, 0.001])))
    bias = np.zeros(2, np.int32)
    for scale, refused in ((2.0**-8, True), (2.0**-8 * 1.01, False)):
        graph = single(dense, [(2,)], [quantizer(1.0)], quantizer(scale), None, bias)
        if refused:
            with pytest.raises(ExportError, match="larger range"):
                written(graph)
            continue
        x, content = levels(np.random.default_rng(0), graph, 5), written(graph)
        for kernels in KERNELS:
            (found,) = interpret(content, x, kernels)
            np.testing.assert_allclose(found, expected(graph, x), atol=1)


def test_bias_beyond_all_results_does_not_overflow():
    """The built-in kernels shift sums to the left, where 2^30 would change its sign."""
    dense = op.Dense(Kernel(np.array([[1, 1], [1, -1]]), F([0.5, 0.5])))
    bias = np.array([2**30 - 1, -(2**30) + 1], np.int32)
    graph = single(dense, [(2,)], [quantizer(1.0)], quantizer(2.0**-6), None, bias)
    x, content = levels(np.random.default_rng(0), graph, 5), written(graph)
    for kernels in KERNELS:
        (found,) = interpret(content, x, kernels)
        np.testing.assert_array_equal(found, np.broadcast_to([127, -128], (5, 2)))


def test_a_sum_beyond_32_bits_is_refused():
    readers = [quantizer(scale) for scale in (2.0**24, 1.0, 0.5)]
    graph = single(op.Merge("add"), [(2, 3)] * 3, readers, quantizer(0.25))
    with pytest.raises(ExportError, match="the runtime adds 32 bits"):
        written(graph)
