"""Each rewrite of a graph alone, by hand and against the graph before it."""

import hypothesis
import numpy as np
import pytest
from hypothesis import Phase, find, given

from examples import settings
from packed_graphs import QUANTIZERS, chain, computed, graphs, inputs_of, names_of, sign
from qframe.deployment.graph.operations import (
    Activation,
    Affine,
    Conv2D,
    Dense,
    MaxPool,
    Merge,
    Pad,
    Quantize,
    Reshape,
    Round,
)
from qframe_packed import rewriting
from qframe_packed.graph import Node, PackedGraph
from qframe_packed.packing import PackedTensor
from qframe_packed.rewriting import (
    absorb_into_thresholds,
    drop_clamp,
    fold_affine,
    fold_padding,
    quantize_first,
    simplify,
)

pytestmark = pytest.mark.pure
EXACT = (absorb_into_thresholds, quantize_first, fold_padding, drop_clamp)
# Those of which drawn graphs have cases. None has a padding, which has tests by hand.
DRAWN = (absorb_into_thresholds, quantize_first, drop_clamp)
KINDS = ("max_pool", "reshape")
F = np.float32


def batch_norm(mean, variance, gamma, beta, epsilon=0.0):
    """As Keras computes it, in float32."""
    mean, variance, gamma, beta = (np.asarray(a, F) for a in (mean, variance, gamma, beta))
    scale = gamma / np.sqrt(variance + F(epsilon))
    return Affine(scale=scale, shift=beta - mean * scale)


def test_batch_norm_and_sign_of_integers():
    """Five channels of the sums of 8 signs, which are from -8 to 8."""
    kernel = PackedTensor.of(np.where(np.arange(40).reshape(5, 8) % 3, 1, -1))
    norm = batch_norm([3, 3, 0, 0, 0.5], [4] * 5, [1, -1, 0, 0, 1], [0, 0, 0, -1, 0])
    graph = chain((8,), sign(), Dense(kernel=kernel), norm, sign())
    simplified = simplify(graph)
    assert names_of(simplified) == ["quantize", "dense", "quantize"]
    last = simplified.nodes[-1].operation
    # m >= 3; m <= 3, which is -m >= -3; always, as sign(0) = +1; never; m >= 0.5.
    assert last.thresholds.tolist() == [[3, -3, -8, 9, 1]]
    assert last.direction.tolist() == [1, -1, 1, 1, 1]
    assert last.thresholds.dtype == np.int8


def test_batch_norm_and_sign_of_floats():
    norm = batch_norm([3, 3, 0, 0], [4] * 4, [1, -1, 0, 0], [0, 0, 0, -1])
    (node,) = simplify(chain((4,), norm, sign())).nodes
    assert node.operation.thresholds.tolist() == [[3, -3, -np.inf, np.inf]]
    assert node.operation.direction.tolist() == [1, -1, 1, 1]
    x = np.array([[3, 3, 7, 7], [2.9999998, 2.9999998, -7, -7]], F)
    (bits,) = computed(simplify(chain((4,), norm, sign())), x)
    assert bits.tolist() == [[1, 1, 1, -1], [-1, 1, 1, -1]]


def test_scale_bias_and_batch_norm_of_three_levels():
    """0, 1 and 2 above 0.5 and 1.5 of ``(m * 0.25 + 1) * -2``."""
    levels = Quantize(thresholds=np.array([0.5, 1.5], F), low=0, step=1)
    both = (
        Affine(scale=np.asarray(0.25, F), shift=np.ones(2, F)),
        Affine(scale=np.array([-2, -2], F)),
    )
    kernel = PackedTensor.of(np.array([[1, -1] * 8, [1, 1] * 8]))
    graph = chain((16,), sign(), Dense(kernel=kernel), *both, levels)
    simplified = simplify(graph, EXACT)
    assert names_of(simplified) == ["quantize", "dense", "quantize"]
    # -0.5 m - 2 >= 0.5 where m <= -5, and >= 1.5 where m <= -7.
    assert simplified.nodes[-1].operation.thresholds.tolist() == [[5, 5], [7, 7]]
    assert simplified.nodes[-1].operation.direction.tolist() == [-1, -1]


def test_one_threshold_for_all_channels_stays_one():
    steps = Activation(function="relu"), Affine(shift=np.asarray(-1, F)), sign()
    (node,) = simplify(chain((2, 2, 3), *steps)).nodes
    assert node.operation.thresholds.tolist() == [1]
    assert node.operation.direction is None


@pytest.mark.parametrize("function", ["tanh", "softmax", "sigmoid"])
def test_what_may_not_be_monotone_to_the_bit_stays(function):
    graph = chain((4,), Activation(function=function), sign())
    assert names_of(simplify(graph)) == ["activation", "quantize"]


def test_a_relu_that_falls_stays():
    for operation in (
        Activation(function="relu", alpha=-0.5),
        Activation(function="relu", threshold=-1.0),
    ):
        assert len(simplify(chain((4,), operation, sign())).nodes) == 2


def test_pooling_of_bits():
    """OR where the threshold is crossed upwards, AND where downwards."""
    direction = np.array([1, -1], np.int8)
    thresholds = np.array([[0, 0]], F)
    graph = chain((2, 2, 2), MaxPool(), sign(thresholds=thresholds, direction=direction))
    simplified = simplify(graph)
    assert names_of(simplified) == ["quantize", "max_pool"]
    assert simplified.nodes[1].operation.direction.tolist() == [1, -1]
    x = np.full((1, 2, 2, 2), -1, F)
    x[0, 0, 0] = 1  # one of four: the largest is 1, and -1 >= 0 is false
    assert computed(simplified, x)[0].reshape(-1).tolist() == [1, -1]
    assert computed(graph, x)[0].reshape(-1).tolist() == [1, -1]


def test_reshaped_bits():
    graph = chain((2, 3, 2), Reshape(shape=(12,)), sign())
    assert names_of(simplify(graph)) == ["quantize", "reshape"]
    # Thresholds for each number of the flat tensor are not thresholds of channels.
    flat = sign(thresholds=np.arange(12, dtype=F).reshape(1, 12))
    graph = chain((2, 3, 2), Reshape(shape=(12,)), flat)
    assert names_of(simplify(graph)) == ["reshape", "quantize"]


def test_what_others_read_stays():
    """The pooled floats are added to what comes of their signs."""
    nodes = (
        Node(MaxPool(), (0,), "pool"),
        Node(sign(), (1,), "sign"),
        Node(Affine(scale=np.asarray(2, F)), (2,), "scale"),
        Node(Merge(function="add"), (1, 3), "add"),
    )
    graph = PackedGraph(((4, 4, 2),), nodes, (4,))
    assert names_of(simplify(graph)) == ["max_pool", "quantize", "affine", "merge"]
    both = PackedGraph(((4, 4, 2),), nodes[:2], (1, 2))
    assert names_of(simplify(both)) == ["max_pool", "quantize"]
    flat = Node(Reshape(shape=(32,)), (0,), "flat"), nodes[1]
    assert names_of(simplify(PackedGraph(((4, 4, 2),), flat, (1, 2)))) == [
        "reshape",
        "quantize",
    ]


def test_many_thresholds_stay_common_to_all_channels():
    """A table for each channel is larger than the scale and the shift; one table moves."""
    levels = Quantize(thresholds=np.arange(4, dtype=F) ** 2, low=0, step=1)
    each, one = Affine(scale=F([2, 3])), Affine(scale=F(2))
    kernel = PackedTensor.of(np.array([[1, -1], [1, 1]]))
    product = (sign(), Dense(kernel=kernel))
    graph = simplify(chain((2,), *product, each, levels))
    assert names_of(graph) == ["quantize", "dense", "affine", "quantize"]
    graph = simplify(chain((2,), *product, one, levels))
    assert names_of(graph) == ["quantize", "dense", "quantize"]
    assert graph.nodes[-1].operation.thresholds.tolist() == [0, 1, 2, 3]
    # A negative scale would need a direction for each channel.
    graph = simplify(chain((2,), *product, Affine(scale=F(-2)), levels))
    assert names_of(graph) == ["quantize", "dense", "affine", "quantize"]


def test_roundings_stay_behind_batch_norm():
    parts = (Affine(scale=F([2, 3])), Affine(shift=F([0, 1])), Round(0, 15))
    assert names_of(simplify(chain((2,), *parts))) == ["affine", "round"]
    assert names_of(simplify(chain((2,), Affine(scale=F(2)), Round(0, 15)))) == [
        "affine",
        "round",
    ]


def test_roundings_go_before_pools_and_reshapes():
    graph = chain((2, 2, 3), MaxPool(), Reshape(shape=(3,)), Round(-4, 3))
    assert names_of(simplify(graph)) == ["round", "max_pool", "reshape"]


@pytest.mark.parametrize(
    ("clamp", "rounding", "dropped"),
    [
        ({}, Round(0, 15), True),
        ({"most": 6.0}, Round(0, 15, factor=2.5), True),
        ({"most": 6.0}, Round(0, 15, factor=2.0), False),
        ({}, Round(-8, 7), False),
        ({"alpha": 0.1}, Round(0, 15), False),
        ({"threshold": 1.0}, Round(0, 15), False),
        ({"function": "hard_tanh"}, Round(-4, 4, factor=4.0), True),
        ({"function": "hard_tanh"}, Round(-4, 4, factor=3.0), False),
        ({"function": "tanh"}, Round(-4, 4, factor=4.0), False),
    ],
)
def test_a_clamp_that_a_rounding_repeats_is_left_out(clamp, rounding, dropped):
    activation = Activation(**{"function": "relu", **clamp})
    graph = chain((7,), activation, rounding)
    simplified = simplify(graph)
    assert names_of(simplified) == (["round"] if dropped else ["activation", "round"])
    x = F([[np.nan, np.inf, -np.inf, -1, 0.3, 0.99, 5]])
    np.testing.assert_array_equal(computed(simplified, x)[0], computed(graph, x)[0])


def test_a_clamp_that_others_read_stays():
    nodes = (
        Node(Activation(function="relu"), (0,), "relu"),
        Node(Round(0, 15), (1,), "round"),
    )
    graph = PackedGraph(((3,),), nodes, (1, 2))
    assert names_of(simplify(graph)) == ["activation", "round"]


@pytest.mark.parametrize(
    ("quantizer", "own", "expected"),
    [
        (None, {}, ((1, 1, 2, 0), 0)),
        (Round(low=-8, high=7), {}, ((1, 1, 2, 0), 0)),
        # What is outside of the image was quantized too: sign(0) = +1.
        (sign(), {}, ((1, 1, 2, 0), 1)),
        (sign(), {"pads": (1, 0, 0, 0), "pad": 1.0}, ((2, 1, 2, 0), 1)),
        # Two borders of different numbers; different signs of 0; a window in the border.
        (sign(), {"pads": (1, 0, 0, 0), "pad": -1.0}, None),
        (sign(thresholds=np.array([[0, 1]], F)), {}, None),
        (Round(low=-8, high=7), {"pads": (0, 0, 1, 0)}, None),
    ],
)
def test_a_convolution_pads_instead_of_a_layer_before_it(quantizer, own, expected):
    kernel = PackedTensor.of(np.arange(-9, 9).reshape(1, 3, 3, 2))
    steps = () if quantizer is None else (quantizer,)
    graph = chain((5, 6, 2), Pad(pads=(1, 1, 2, 0)), *steps, Conv2D(kernel=kernel, **own))
    simplified = simplify(graph, (fold_padding,))
    x = np.random.default_rng(0).normal(size=(2, 5, 6, 2)).astype(F)
    np.testing.assert_array_equal(computed(simplified, x), computed(graph, x))
    conv = simplified.nodes[-1].operation
    assert (("pad" in names_of(simplified)), conv.pads) == (
        (True, own.get("pads", (0, 0, 0, 0))) if expected is None else (False, expected[0])
    )
    assert expected is None or conv.pad == expected[1]


def test_a_padding_that_others_read_stays():
    nodes = (
        Node(Pad(pads=(1, 1, 1, 1)), (0,)),
        Node(Conv2D(kernel=np.ones((1, 3, 3, 1), F)), (1,)),
    )
    graph = PackedGraph(((4, 4, 1),), nodes, (2, 1))
    assert names_of(simplify(graph)) == ["pad", "conv2d"]


def test_fold():
    scales = np.array([2, -3], F), np.array([0.5, 1], F)
    steps = (
        Affine(scale=scales[0], shift=np.array([1, 2], F)),
        Affine(scale=scales[1]),
        Affine(shift=np.asarray(4, F)),
    )
    (node,) = simplify(chain((2,), *steps), (fold_affine,)).nodes
    assert node.operation.scale.tolist() == [1, -3]
    assert node.operation.shift.tolist() == [4.5, 6]
    assert node.operation.scale.dtype == node.operation.shift.dtype == F


def test_dead_nodes_go():
    nodes = (Node(sign(), (0,), "a"), Node(Affine(), (0,), "b"))
    assert [n.name for n in simplify(PackedGraph(((3,),), nodes, (2,))).nodes] == ["b"]


@pytest.mark.parametrize("rule", DRAWN, ids=lambda rule: rule.__name__)
@given(graph=graphs())
@settings(max_examples=40)
def test_a_rule_changes_no_bit(rule, graph):
    simplified = simplify(graph, (rule,))
    for x in inputs_of(graph):
        for output, target in zip(computed(simplified, x), computed(graph, x), strict=True):
            assert output.dtype == target.dtype
            np.testing.assert_array_equal(output, target)


def _changes(rule):
    """Whether a rule applies to a graph."""
    return lambda graph: names_of(simplify(graph, (rule,))) != names_of(graph)


def _reads_bits(graph, kind):
    """The number of operations of a kind that read a quantizer."""
    names = [None] * len(graph.inputs) + names_of(graph)
    return sum(
        n.operation.name == kind and names[n.inputs[0]] in QUANTIZERS for n in graph.nodes
    )


def _moves(kind):
    """Whether a quantizer moves before an operation of a kind."""
    return lambda graph: (
        _reads_bits(simplify(graph, (quantize_first,)), kind) > _reads_bits(graph, kind)
    )


def _whole_thresholds(graph):
    steps = [node.operation for node in simplify(graph).nodes]
    return any(s.thresholds.dtype.kind == "i" for s in steps if isinstance(s, Quantize))


@pytest.mark.parametrize(
    "condition",
    [*map(_changes, (*DRAWN, fold_affine)), *map(_moves, KINDS), _whole_thresholds],
    ids=range(7),
)
def test_graphs_meet_every_rule(condition):
    """Or the tests of what rules leave alone could not fail."""
    quick = hypothesis.settings(phases=[Phase.generate], max_examples=300)
    assert condition(find(graphs(), condition, settings=quick))


@given(graphs())
@settings(max_examples=150)
def test_all_exact_rules_change_no_bit(graph):
    simplified = simplify(graph, EXACT)
    for x in inputs_of(graph):
        np.testing.assert_array_equal(computed(simplified, x)[0], computed(graph, x)[0])


@given(graphs())
@settings(max_examples=60)
def test_folding_rounds_once(graph):
    simplified = simplify(graph, (fold_affine,))
    assert len(simplified.nodes) <= len(graph.nodes)
    if {"quantize", "round"} & {*names_of(graph)}:
        return  # a number beside a threshold may move to its other side
    for x in inputs_of(graph):
        output, target = computed(simplified, x)[0], computed(graph, x)[0]
        scale = max(1, np.abs(target).max())
        np.testing.assert_allclose(output, target, rtol=1e-5, atol=1e-6 * scale)


def test_padded_convolution_of_integers():
    """Zeros outside count for nothing, and ones as what they are."""
    kernel = PackedTensor.of(np.array([1, 1, 1, -1, 1, 1, 1, 1, 1]).reshape(1, 3, 3, 1))
    x = np.ones((1, 2, 2, 1), F)
    for pad, expected in ((0, [4, 2, 4, 2]), (-1, [1, -3, 1, -3]), (1, [7] * 4)):
        conv = Conv2D(kernel=kernel, pads=(1, 1, 1, 1), pad=pad)
        (simplified,) = computed(chain((2, 2, 1), sign(), conv), x)
        assert simplified.reshape(-1).tolist() == expected
    assert (*EXACT, fold_affine) == rewriting.RULES
