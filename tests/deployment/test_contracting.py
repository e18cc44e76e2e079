"""Products of two tensors, einsums and attention: what their graphs compute."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers, ops

import qframe as qf
from qframe.deployment.graph import operations as op
from qframe.deployment.graph.checks import require_grids
from qframe.deployment.graph.fused import Fused
from qframe.deployment.graph.fusing import fuse
from qframe.deployment.graph.reference import run, tensors_of
from qframe.deployment.graph.values import Grid, Value
from qframe.deployment.lowering import ExportTarget, lower
from qframe.errors import DataError, ExportError

pytestmark = [
    pytest.mark.ends,
    pytest.mark.filterwarnings("ignore::qframe.errors.StarvedWeightsWarning"),
]
TARGET = ExportTarget("mine")
LEVELS = "integer(symmetric=False, gather='widest')"


def inputs_of(model, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(3, *x.shape[1:])).astype("float32") for x in model.inputs]


def assert_as_in_keras(model):
    rng = np.random.default_rng(1)
    for weight in model.weights:
        if weight.dtype == "float32" and "quantizer" not in weight.path:
            weight.assign(rng.normal(size=weight.shape))
    x = inputs_of(model)
    graph = lower(model, TARGET)
    expected = ops.convert_to_numpy(model(x if len(x) > 1 else x[0], training=False))
    found = tensors_of(graph, *x)[graph.outputs[0]]
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-5)
    return graph


def model_of(function, *shapes):
    inputs = [keras.Input(shape) for shape in shapes]
    return keras.Model(inputs, function(*inputs))


# The equation of two tensors, and their shapes.
EINSUMS = {
    "bij,bjk->bik": ((2, 3), (3, 4)),
    "bij,bkj->bik": ((2, 3), (4, 3)),
    "bij,bkj->bki": ((2, 3), (4, 3)),
    "abcd,aecd->acbe": ((2, 3, 4), (5, 3, 4)),
    "acbe,aecd->abcd": ((3, 2, 5), (5, 3, 4)),
    "...ij,...jk->...ik": ((2, 2, 3), (2, 3, 4)),
    "bi,bi->b": ((4,), (4,)),
    "bi,bj->bij": ((4,), (3,)),
    "bij,bij->bi": ((4, 2), (4, 2)),
    "bij,bij->bji": ((4, 2), (4, 2)),
    "bi,bij->bj": ((4,), (4, 3)),
}


@pytest.mark.parametrize("equation", [e for e in EINSUMS if not e.endswith("->b")])
def test_an_einsum_of_two_tensors_computes_what_keras_does(equation):
    graph = assert_as_in_keras(
        model_of(lambda x, y: ops.einsum(equation, x, y), *EINSUMS[equation])
    )
    assert sum(isinstance(node.operation, op.Matmul) for node in graph.nodes) == 1


@pytest.mark.parametrize(
    ("function", "shapes"),
    [
        (lambda x, y: x @ y, [(2, 3), (3, 4)]),
        (lambda x, y: x @ y, [(2, 2, 3), (2, 3, 4)]),
        (lambda x: x @ np.ones((3, 2), "float32"), [(2, 3)]),
        (lambda x: ops.einsum("bij,jk->bki", x, np.eye(3, 2, dtype="float32")), [(2, 3)]),
    ],
)
def test_products_of_matrices_compute_what_keras_does(function, shapes):
    assert_as_in_keras(model_of(function, *shapes))


@pytest.mark.parametrize(
    ("axes", "shapes"),
    [
        (1, [(4,), (4,)]),
        (-1, [(2, 4), (3, 4)]),
        ((2, 1), [(2, 4), (4, 3)]),
        ((1, 2), [(4, 2), (3, 4)]),
        (1, [(4,), (4, 3)]),
        (3, [(2, 3, 4), (5, 2, 4)]),
    ],
)
def test_a_dot_computes_what_keras_does(axes, shapes):
    assert_as_in_keras(model_of(lambda *xs: layers.Dot(axes)(list(xs)), *shapes))


# Arguments of EinsumDense, and the shape of its input.
DENSE = [
    ("abc,cd->abd", (None, 5), "d", (2, 3)),
    ("abc,cd->adb", (5, None), None, (2, 3)),
    ("...x,xy->...y", 5, "y", (2, 3)),
    ("ab,bc->ac", 5, "c", (3,)),
    ("abc,cde->abde", (None, 2, 5), "de", (2, 3)),
    ("abc,cde->abde", (None, 2, 5), "e", (2, 3)),
    ("abcd,cde->abe", (None, 5), "e", (2, 3, 4)),
    ("abc,dc->abd", (None, 5), "d", (2, 3)),
    ("abc,bd->adc", (5, None), None, (2, 3)),
]


@pytest.mark.parametrize("quantizer", [None, "integer(bits=4, granularity='channel')"])
@pytest.mark.parametrize("case", DENSE, ids=lambda case: f"{case[0]} {case[2]}")
def test_an_einsum_with_weights_computes_what_keras_does(case, quantizer):
    equation, output, bias_axes, shape = case
    layer = qf.layers.QuantEinsumDense(
        equation,
        output,
        bias_axes=bias_axes,
        activation="relu",
        kernel_quantizer=quantizer,
        input_quantizer=quantizer and "dorefa(k_bit=3)",
    )
    graph = assert_as_in_keras(model_of(layer, shape))
    (dense,) = (n.operation for n in graph.nodes if isinstance(n.operation, op.Dense))
    if quantizer:
        assert dense.kernel.span.bits <= 4


def test_an_einsum_quantizes_what_enters_its_activation():
    quantizers = {"preactivation_quantizer": "dorefa(k_bit=2)"}
    layer = qf.layers.QuantEinsumDense(
        "abc,cd->abd", (None, 5), bias_axes="d", activation="tanh", **quantizers
    )
    graph = assert_as_in_keras(model_of(layer, (2, 3)))
    assert any(isinstance(node.operation, op.Quantize) for node in graph.nodes)


@pytest.mark.parametrize("others", [{}, {"use_scale": True}])
@pytest.mark.parametrize("count", [2, 3])
def test_attention_computes_what_keras_does(count, others):
    shapes = [(4, 3), (5, 3), (5, 3)][:count]
    layer = layers.Attention(**others)
    assert_as_in_keras(model_of(lambda *xs: layer(list(xs)), *shapes))


# Older versions of Keras take values and queries of one size only.
@pytest.mark.once_per_backend
@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("use_bias", [True, False])
def test_attention_with_heads_computes_what_keras_does(use_bias, dropout):
    options = {"value_dim": 5, "use_bias": use_bias, "dropout": dropout}
    if keras.backend.backend() == "jax" and not dropout:
        # Keras's own call fails there for values of another size than the keys.
        del options["value_dim"]
    layer = layers.MultiHeadAttention(2, 3, **options)
    assert_as_in_keras(model_of(lambda q, v: layer(q, v), (4, 6), (5, 7)))
    self_attention = layers.MultiHeadAttention(2, 4, output_shape=3, **options)
    assert_as_in_keras(model_of(lambda x: self_attention(x, x), (4, 6)))
    named = layers.MultiHeadAttention(2, 4, **options)
    function = lambda q, v, k: named(key=k, value=v, query=q)  # noqa: E731
    assert_as_in_keras(model_of(function, (4, 6), (5, 7), (5, 2)))


@pytest.mark.parametrize("same", [True, False])
def test_an_input_quantizer_of_attention_is_that_of_the_query_alone(same):
    x, y = keras.Input((4, 6)), keras.Input((5, 6))
    layer = layers.MultiHeadAttention(2, 3)
    model = keras.Model(x, layer(x, x))
    if not same:
        model = keras.Model([x, y], layer(value=y, query=x))
    qf.quantize(model, {"edge_quantizer": "dorefa(k_bit=2)"})
    assert layer.quantizers["input"] is not None
    del layer.quantizers["output"]
    assert_as_in_keras(model)


def attention_of_integers():
    """Attention whose tensors are all quantized, of layers."""
    x = keras.Input((6, 8))
    y = qf.quantizers.get(LEVELS)(x)
    q, k, v = (
        qf.layers.QuantEinsumDense(
            "abc,cde->abde",
            (None, 2, 4),
            bias_axes="de",
            kernel_quantizer="integer(granularity='channel', narrow_range=True)",
            output_quantizer=LEVELS,
        )(y)
        for _ in range(3)
    )
    scores = ops.einsum("abcd,aecd->acbe", q, k) * 0.5
    scores = qf.quantizers.get(LEVELS)(scores)
    shares = qf.quantizers.get("dorefa(k_bit=8)")(layers.Softmax()(scores))
    mixed = ops.einsum("acbe,aecd->abcd", shares, v)
    return keras.Model(x, qf.quantizers.get(LEVELS)(mixed))


def test_attention_of_integers_passes_no_floats():
    model = attention_of_integers()
    x = np.random.default_rng(0).normal(size=(50, 6, 8)).astype("float32")
    qf.calibrate(model, x, verbose=0)
    graph = fuse(lower(model, TARGET))
    require_grids(graph, "mine")
    products = [
        node.operation
        for node in graph.nodes
        if isinstance(node.operation, Fused)
        and isinstance(node.operation.operation, op.Matmul)
    ]
    assert [product.operation.scale for product in products] == [0.5, 1.0]
    assert all(None not in product.scales for product in products)
    found = tensors_of(graph, x)[graph.outputs[0]]
    expected = model.predict(x, verbose=0)
    step = products[-1].quantize.scale
    steps = np.rint((found - expected) / step)
    # A bias is an integer here, which moves some numbers to the next step.
    assert np.abs(steps).max() <= 2
    assert np.mean(steps == 0) > 0.9


@given(
    ends=st.lists(st.integers(-128, 127), min_size=4, max_size=4),
    scales=st.lists(st.sampled_from([0.1, 0.25, 3.0]), min_size=2, max_size=2),
    seed=st.integers(0, 2**16),
)
@settings(max_examples=30, deadline=None)
def test_products_of_integers_are_added_as_integers(ends, scales, seed):
    rng = np.random.default_rng(seed)
    x = rng.integers(min(ends[:2]), max(ends[:2]) + 1, (2, 3, 5)).astype(np.int32)
    y = rng.integers(min(ends[2:]), max(ends[2:]) + 1, (2, 5, 4)).astype(np.int32)
    fused = Fused(op.Matmul(scale=0.5), tuple(scales))
    grids = [Grid(-128, 127, scale=scale) for scale in scales]
    value = fused.infer(Value((3, 5), grids[0]), Value((5, 4), grids[1]))
    found = run(fused, x, y)
    assert found.shape[1:] == value.shape
    sums = (x[:, :, :, None] * y[:, None]).sum(2)
    step = np.float32(0.5 * scales[0] * scales[1])
    np.testing.assert_array_equal(found, sums.astype(np.float32) * step)


def test_matrices_that_do_not_match_are_refused():
    for x, y in [((3, 5), (4, 5)), ((5,), (5, 4)), ((2, 3, 5), (3, 5, 4)), ((3, 5), (5,))]:
        with pytest.raises(DataError, match="do not match"):
            op.Matmul().infer(Value(x), Value(y))


def called_with(**arguments):
    layer = layers.MultiHeadAttention(2, 3)
    return model_of(lambda x: layer(x, x, **arguments), (4, 6))


REFUSED = {
    "a rank of vectors": (
        lambda: model_of(lambda x, y: x @ y, (3, 4), (2, 4, 5)),
        "matrices of one rank",
    ),
    "a constant first": (
        lambda: model_of(lambda x: ops.matmul(np.ones((2, 3), "float32"), x), (3, 4)),
        "Write the tensor first",
    ),
    "a sum of samples": (
        lambda: model_of(
            lambda x, y: ops.reshape(ops.einsum("ab,ab->b", x, y), (-1, 3)), (3,), (3,)
        ),
        "does not keep the batch",
    ),
    "an axis of one tensor": (
        lambda: model_of(lambda x, y: ops.einsum("abc,ad->ad", x, y), (3, 2), (3,)),
        "adds along an axis of one tensor alone",
    ),
    "weights for each step": (
        lambda: model_of(layers.EinsumDense("abc,bcd->abd", (3, 2)), (3, 4)),
        "takes other weights along an axis",
    ),
    "lengths": (
        lambda: model_of(lambda x, y: layers.Dot(1, normalize=True)([x, y]), (3,), (3,)),
        "normalize=False",
    ),
    "concatenated scores": (
        lambda: model_of(lambda x: layers.Attention(score_mode="concat")([x, x]), (3, 4)),
        "score_mode='dot'",
    ),
    "a causal mask": (lambda: called_with(use_causal_mask=True), "called with a mask"),
    "a mask": (
        lambda: called_with(attention_mask=np.ones((1, 4, 4), bool)),
        "called with a mask",
    ),
    "another attention": (
        lambda: model_of(lambda x: layers.AdditiveAttention()([x, x]), (3, 4)),
        "no such attention",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_product_of_tensors_is_refused_with_the_reason(case):
    make, reason = REFUSED[case]
    with pytest.raises(ExportError, match=reason):
        lower(make(), TARGET)


def test_attention_that_returns_its_scores_is_refused():
    layer = layers.MultiHeadAttention(2, 3)
    x = keras.Input((4, 6))
    model = keras.Model(x, layer(x, x, return_attention_scores=True)[0])
    with pytest.raises(ExportError, match="return_attention_scores=False"):
        lower(model, TARGET)
