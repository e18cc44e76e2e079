"""Each operation on the compiled engine: as in NumPy, and by which kernel."""

import numpy as np
import pytest

from packed_checks import BAD, F, check, conv, halves, integers, levels, per_channel
from packed_graphs import adds_exactly, chain, computed, sign
from qframe.deployment.graph import operations as op
from qframe_packed.compiled import operands
from qframe_packed.graph import Node, PackedGraph

pytestmark = pytest.mark.pure
IMAGE = (6, 7, 5)
DIRECTION = np.array([1, -1, -1, 1, 1], np.int8)
KERNEL = integers(4, 3, 3, 5)
WIDE = np.arange(5) * 1000 - 2000


# Of the name of a case: the shape, the operations, and kernels that they need.
CHAINS = {
    "nothing": (IMAGE, (), ()),
    "bits as an output": (IMAGE, (sign(),), ("PACK", "unpack")),
    "levels as an output": (IMAGE, (levels(12, -3),), ("PACK", "unpack")),
    "17 levels": (IMAGE, (levels(17), conv(KERNEL)), ("EVEN_LEVELS", "ENCODE", "codes")),
    "256 levels": (
        (4000,),
        (op.Quantize(thresholds=np.arange(-127, 128) / F(42)),),
        ("EVEN_LEVELS",),
    ),
    "levels for each channel": (
        IMAGE,
        (per_channel(5), conv(KERNEL)),
        ("PACK", "bits 2 x 1"),
    ),
    "many levels for each channel": (
        IMAGE,
        (op.Quantize(thresholds=np.sort(halves(20, 5), axis=0), direction=DIRECTION),),
        ("LEVELS",),
    ),
    "pool of signs": (
        IMAGE,
        (
            sign(),
            op.MaxPool(direction=DIRECTION, pads=(1, 0, 1, 1)),
            conv(integers(3, 1, 1, 5)),
        ),
        ("pool of bits", "bits 1 x 1"),
    ),
    "pool of levels": (
        IMAGE,
        (levels(4), op.MaxPool(direction=DIRECTION)),
        ("pool of floats",),
    ),
    "pool of sums": (
        IMAGE,
        (sign(), conv(KERNEL), op.MaxPool(), sign(thresholds=np.zeros(1, int))),
        ("PACK",),
    ),
    "overlapping pool": (
        IMAGE,
        (op.MaxPool(pool=(3, 2), strides=(1, 2), pads=(2, 1, 0, 1), direction=DIRECTION),),
        ("pool of floats",),
    ),
    "pool of many channels": (
        (6, 7, 19),
        (op.MaxPool(pool=(2, 3), pads=(0, 1, 1, 0), direction=np.resize(DIRECTION, 19)),),
        ("pool of floats",),
    ),
    "average of many channels": (
        (6, 7, 16),
        (op.AveragePool(pool=(2, 2), strides=(2, 2)),),
        ("pool of floats",),
    ),
    "average pool": (
        IMAGE,
        (op.AveragePool(pool=(3, 3), strides=(2, 1), pads=(1, 2, 0, 2)),),
        ("pool of floats",),
    ),
    "mean": (IMAGE, (op.GlobalPool(function="average"),), ("mean",)),
    "largest": (IMAGE, (sign(), op.GlobalPool(function="max")), ("numpy",)),
    "reshaped bits": (
        (2, 3, 16),
        (sign(), op.Reshape(shape=(96,)), op.Dense(kernel=integers(9, 96))),
        ("bits 1 x 1",),
    ),
    "reshaped odd bits": (
        IMAGE,
        (sign(), op.Reshape(shape=(210,)), op.Dense(kernel=integers(9, 210))),
        ("unpack", "bits 1 x 1"),
    ),
    "reshaped pixels": (
        IMAGE,
        (levels(4), op.Reshape(shape=(42, 5)), op.Dense(kernel=integers(9, 5))),
        ("bits 2 x 1",),
    ),
    "reshaped levels": (
        (2, 3, 16),
        (levels(4), op.Reshape(shape=(96,)), op.Dense(kernel=integers(9, 96))),
        ("bits 2 x 1",),
    ),
    "padding of floats": (
        IMAGE,
        (op.Pad(pads=(1, 0, 2, 3)), conv(KERNEL)),
        ("surround", "float"),
    ),
    "no padding": (IMAGE, (op.Affine(), op.Pad(pads=(0, 0, 0, 0))), ("chain",)),
    "padding with a half": (
        IMAGE,
        (conv(KERNEL, pads=(1, 1, 0, 2), pad=0.5),),
        ("surround", "float"),
    ),
    "dilated floats": (IMAGE, (conv(KERNEL, dilation=(2, 3), strides=(2, 1)),), ("float",)),
    "grouped": ((5, 5, 6), (conv(integers(9, 2, 2, 2), groups=3),), ("float",)),
    "grouped signs": (
        (5, 5, 6),
        (sign(), conv(integers(9, 2, 2, 2), groups=3, pads=(1, 0, 0, 1))),
        ("border", "codes"),
    ),
    "groups of signs": (
        (5, 6, 128),
        (
            sign(),
            conv(
                integers(70, 3, 2, 64),
                groups=2,
                pads=(1, 2, 1, 0),
                pad=-1,
                strides=(1, 2),
            ),
        ),
        ("bits 1 x 1",),
    ),
    "groups of levels": (
        (4, 3, 192),
        (
            levels(4),
            conv(integers(9, 2, 2, 64, of=(-1, 0, 1)), groups=3, pads=(1, 1, 0, 0)),
        ),
        ("bits 2 x 2",),
    ),
    "wide groups": ((3, 3, 40), (conv(integers(80, 2, 2, 20), groups=2),), ("float",)),
    "depthwise": (
        IMAGE,
        (
            conv(
                integers(5, 3, 2, 1),
                groups=5,
                dilation=(1, 2),
                strides=(2, 1),
                pads=(1, 2, 2, 0),
                pad=-1,
            ),
        ),
        ("depthwise",),
    ),
    "depthwise, many channels": (
        (6, 7, 19),
        (op.Conv2D(kernel=halves(19, 2, 3, 1), dilation=(2, 1), groups=19),),
        ("depthwise",),
    ),
    "depthwise signs": (
        IMAGE,
        (
            sign(),
            conv(integers(5, 3, 3, 1), groups=5, pads=(1, 1, 1, 1), pad=1),
            sign(thresholds=np.zeros(1, int)),
        ),
        ("depthwise of codes", "PACK"),
    ),
    "two of each channel": (IMAGE, (conv(integers(10, 3, 3, 1), groups=5),), ("float",)),
    "one channel": ((4, 4, 1), (conv(integers(1, 3, 3, 1)),), ("float",)),
    "dense on images": (IMAGE, (op.Dense(kernel=integers(9, 5)),), ("float",)),
    "float16": (IMAGE, (op.Dense(kernel=halves(9, 5).astype("float16")),), ("float",)),
    "16-bit weights": (
        IMAGE,
        (levels(17), op.Dense(kernel=integers(3, 5, of=np.arange(-9, 9) * 999))),
        ("float",),
    ),
    "prelu": ((5,), (op.PReLU(alpha=halves(5)),), ("PRELU",)),
    "prelu of images": (IMAGE, (op.PReLU(alpha=halves(1, 1, 5)),), ("PRELU",)),
    "prelu of one slope": (IMAGE, (op.PReLU(alpha=halves(1, 1, 1) + F(0.25)),), ()),
    "prelu of pixels": (IMAGE, (op.PReLU(alpha=halves(6, 7, 1)),), ()),
    "prelu of numbers": (IMAGE, (op.PReLU(alpha=halves(6, 7, 5)),), ("numpy",)),
    "relu": (
        IMAGE,
        (op.Activation(function="relu", alpha=0.5, most=1, threshold=0.5),),
        ("LEAKY_RELU",),
    ),
    "relu without bounds": (
        IMAGE,
        (op.Activation(function="relu", threshold=-1),),
        ("RELU",),
    ),
    "relu of few channels": (
        (40, 3),
        (op.Activation(function="relu"), op.Affine(scale=F([2, -1, 0.5]))),
        ("RELU", "FINISH"),
    ),
    "leaky tanh": (
        IMAGE,
        (op.Activation(function="leaky_tanh", alpha=0.5),),
        ("LEAKY_TANH",),
    ),
    "one number for all": (
        IMAGE,
        (op.Affine(scale=np.asarray(0.3, F), shift=np.asarray(0.1, F)),),
        ("FINISH",),
    ),
    "integers as floats": (
        IMAGE,
        (sign(), conv(KERNEL), op.Affine(shift=halves(4))),
        ("bits 1 x 1", "FINISH"),
    ),
    "quantized twice": (
        IMAGE,
        (levels(4), sign(thresholds=np.array([2])), op.Affine()),
        ("PACK",),
    ),
    "sums of sums": (
        IMAGE,
        (sign(), conv(KERNEL), op.Dense(kernel=integers(3, 4))),
        ("bits 1 x 1", "codes"),
    ),
}


LARGE = {
    "levels": levels(4, 3 - 2**28, 2**27 + 1),
    "many levels": levels(20, 3 - 2**28, 2**25 + 1),
    "sums": conv(integers(4, 3, 3, 5, of=WIDE + 1)),
    "sums of a group": conv(integers(10, 3, 3, 1, of=WIDE + 1), groups=5),
    "sums of a channel": conv(integers(5, 3, 3, 1, of=WIDE + 1), groups=5),
    "dense": op.Dense(kernel=integers(4, 5, of=WIDE * 9 + 1)),
}


@pytest.mark.parametrize("case", LARGE)
def test_integers_that_float32_does_not_hold(case):
    """A threshold at such a number is still reached by it, and not by the one below."""
    operation = LARGE[case]
    first = () if isinstance(operation, op.Quantize) else (levels(2, 1, 2**12),)
    x = halves(5, *IMAGE)
    check(chain(IMAGE, *first, operation), x)
    (numbers,) = computed(chain(IMAGE, *first, operation), x)
    assert np.abs(numbers).max() > 2**24
    for shift in (0, 1):
        edges = np.unique(numbers)[1:40] + shift
        check(chain(IMAGE, *first, operation, sign(thresholds=edges)), x)
    bits = conv(integers(2, 1, 1, numbers.shape[-1]))
    check(chain(IMAGE, *first, operation, bits), x)


@pytest.mark.parametrize("case", CHAINS)
def test_operations(case, monkeypatch):
    # A processor chooses between bits and codes by what it has instructions for.
    monkeypatch.setattr(operands, "MOST_PRODUCTS", 4)
    shape, steps, needed = CHAINS[case]
    graph = chain(shape, *steps)
    x = halves(5, *shape)
    assert adds_exactly(graph, x)
    assert check(graph, x) >= set(needed)


@pytest.mark.parametrize("function", op.FUNCTIONS)
def test_activations(function):
    graph = chain((3, 9), op.Activation(function=function, alpha=0.5))
    kinds = check(graph, halves(20, 3, 9), exact=function != "softmax")
    stages = ("clip", "hard_sigmoid", "hard_silu", "hard_tanh", "leaky_tanh")
    codes = {name: name.upper() for name in stages}
    codes |= {"relu": "LEAKY_RELU", "softmax": "softmax"}
    assert {*codes} <= {*op.FUNCTIONS}
    assert codes.get(function, "numpy") in kinds


def merge(function, *inputs):
    return Node(op.Merge(function=function), inputs, function)


# Tensors: 0 and 1 are inputs, 2 is a convolution, 3 what follows it, 4 another convolution,
# which comes after all of these.
BEFORE = (
    Node(conv(KERNEL, pads=(1, 1, 1, 1)), (0,)),
    Node(op.Affine(scale=F([0.5, -1, 0, 2])), (2,)),
    Node(conv(integers(4, 3, 3, 5, seed=1), pads=(1, 1, 1, 1)), (0,)),
)
WAYS = ("add", "subtract", "multiply", "divide", "maximum", "minimum", "average")


@pytest.mark.parametrize(
    "inputs",
    [(2, 4), (4, 2), (3, 4), (2, 3), (3, 2), (2, 2), (1, 1), (1, 2), (4, 1), (0, 0)],
)
@pytest.mark.parametrize("function", WAYS)
def test_merges(function, inputs):
    """What is merged is computed before or after one another, or is one tensor."""
    after = Node(sign(), (5,)), Node(conv(integers(3, 1, 1, 4)), (6,))
    graph = PackedGraph(
        (IMAGE, (6, 7, 4)), (*BEFORE, merge(function, *inputs), *after[:-1]), (5, 6, 2)
    )
    if 0 not in inputs:
        graph = PackedGraph(graph.inputs, (*graph.nodes, after[1]), (7,))
    kinds = check(graph, halves(5, *IMAGE), halves(5, 6, 7, 4, seed=1))
    assert {function.upper(), f"{function}_from".upper()} & kinds


@pytest.mark.parametrize(
    ("inputs", "code"),
    [
        ((2, 4), "SUBTRACT_FROM"),
        ((4, 2), "SUBTRACT"),
        ((3, 3), "SUBTRACT"),
        ((2, 4), "DIVIDE_FROM"),
        ((4, 2), "DIVIDE"),
    ],
)
def test_a_chain_goes_on_from_what_is_computed_last(inputs, code):
    function = code.removesuffix("_FROM").lower()
    graph = PackedGraph((IMAGE, (6, 7, 4)), (*BEFORE, merge(function, *inputs)), (5,))
    kinds = check(graph, halves(5, *IMAGE), halves(5, 6, 7, 4))
    assert kinds == {"float", "surround", "AFFINE", "FINISH", "STORE", code}


@pytest.mark.parametrize("function", ["add", "multiply", "average", "maximum"])
def test_merges_of_many_and_of_other_shapes(function):
    x = halves(5, *IMAGE), halves(5, 6, 7, 4, seed=1)
    many = PackedGraph((IMAGE, (6, 7, 4)), (*BEFORE, merge(function, 1, 2, 3, 4, 2)), (5,))
    check(many, *x)
    small = (
        Node(op.GlobalPool(function="max"), (2,)),
        Node(op.Reshape(shape=(1, 1, 4)), (5,)),
    )
    wide = PackedGraph((IMAGE, (6, 7, 4)), (*BEFORE, *small, merge(function, 6, 4)), (7,))
    assert ("GATE" if function == "multiply" else "numpy") in check(wide, *x)


@pytest.mark.parametrize("channels", [1, 3, 8, 21, 64])
@pytest.mark.parametrize("pixels", [(3,), (1, 2), (40, 40)])
@pytest.mark.parametrize("first", [True, False])
def test_an_image_is_multiplied_by_one_pixel_of_the_same_sample(channels, pixels, first):
    shape, one = (*pixels, channels), (*(1 for _ in pixels), channels)
    inputs = (0, 1) if first else (1, 0)
    after = Node(levels(20), (2,)), Node(op.Merge(function="add"), (2, 0))
    graph = PackedGraph((shape, one), (merge("multiply", *inputs), *after), (2, 3, 4))
    x = [halves(5, *size, seed=seed) for seed, size in enumerate((shape, one))]
    x[1][0].flat[0] = np.nan
    assert "GATE" in check(graph, *x)


def test_pixels_of_more_than_one_size_are_multiplied_by_numpy():
    x = halves(2, 3, 1, 4), halves(2, 1, 5, 4)
    graph = PackedGraph(((3, 1, 4), (1, 5, 4)), (merge("multiply", 0, 1),), (2,))
    assert check(graph, *x) == {"numpy"}


ENDS = [(-1.0, 2.0), (None, 0.5), (-0.5, None), (2.0, -1.0)]


@pytest.mark.parametrize(("least", "most"), ENDS)
def test_numbers_that_are_not_finite_are_clipped_as_in_numpy(least, most):
    x = np.resize(np.append(BAD, [-0.0, 0.0, 1e-40, -7, 7]), (2, 3, 11)).astype(F)
    clip = op.Activation(function="clip", least=least, most=most)
    hard = [op.Activation(function=name) for name in ("hard_sigmoid", "hard_silu")]
    for operation in (clip, *hard):
        assert "numpy" not in check(chain((3, 11), operation), x)


@pytest.mark.parametrize("function", ["divide", "maximum", "minimum"])
def test_numbers_that_are_not_finite_are_merged_as_in_numpy(function):
    numbers = np.append(BAD, [-0.0, 1e-40, -7, 7]).astype(F)
    pairs = np.stack(np.meshgrid(numbers, numbers), axis=-1).reshape(1, -1, 2)
    graph = PackedGraph(((49,), (49,)), (merge(function, 0, 1),), (2,))
    assert check(graph, pairs[..., 0], pairs[..., 1]) >= {function.upper()}


def test_a_tensor_is_returned_and_read_in_every_form():
    nodes = (
        Node(conv(KERNEL), (0,), "sums"),
        Node(op.Affine(shift=halves(4)), (1,)),
        Node(op.Activation(function="relu"), (2,)),
        # The chain has passed these tensors.
        Node(sign(), (2,)),
        Node(levels(5), (1,)),
        Node(levels(40), (2,)),
        Node(sign(low=0, step=1), (3,)),
        Node(op.Reshape(shape=(80,)), (3,)),
        Node(op.Concatenate(axis=3), (4, 4)),
        merge("subtract", 2, 1),
        merge("subtract", 3, 1),
        Node(conv(integers(3, 1, 1, 4)), (4,)),
        Node(conv(integers(3, 1, 1, 4)), (5,)),
        Node(op.MaxPool(), (4,)),
        Node(op.MaxPool(), (2,)),
    )
    indices = range(len(nodes) + 1)
    x = halves(5, *IMAGE)
    kinds = check(PackedGraph((IMAGE,), nodes, (*indices, 3, 0)), x)
    assert kinds >= {"SUBTRACT", "STORE", "PACK", "EVEN_LEVELS", "pool of bits"}
    for index in indices:
        check(PackedGraph((IMAGE,), nodes, (index,)), x)


def test_concatenated_bits():
    nodes = (
        Node(sign(), (0,)),
        Node(sign(low=0), (1,)),
        Node(op.Concatenate(axis=3), (2, 2)),
    )
    last = Node(conv(integers(3, 2, 2, 10)), (4,))
    graph = PackedGraph((IMAGE, IMAGE), (*nodes, last), (5, 3))
    assert check(graph, halves(3, *IMAGE), halves(3, *IMAGE, seed=1)) >= {
        "join",
        "bits 1 x 1",
    }


# Infinities, turned to NaN as infinity minus infinity is, by NumPy as well.
@pytest.mark.parametrize("case", CHAINS)
@pytest.mark.filterwarnings("ignore:invalid value")
def test_numbers_that_are_not_finite_in(case):
    shape, steps, _ = CHAINS[case]
    x = halves(30, *shape)
    rng = np.random.default_rng(2)
    check(
        chain(shape, *steps),
        np.where(rng.random(x.shape) < 0.02, rng.choice(BAD, x.shape), x),
    )


@pytest.mark.filterwarnings("ignore:invalid value")
@pytest.mark.parametrize("function", op.FUNCTIONS)
def test_activations_of_numbers_that_are_not_finite(function):
    x = halves(30, 3, 5)
    rng = np.random.default_rng(2)
    x = np.where(rng.random(x.shape) < 0.1, rng.choice(BAD, x.shape), x)
    graph = chain((3, 5), op.Activation(function=function, alpha=0.5))
    check(graph, x, exact=function != "softmax")


def test_even_levels_are_exact_at_their_thresholds():
    """Those of each channel are spaced otherwise, and not quite evenly."""
    rng = np.random.default_rng(3)
    first, step = rng.normal(size=19), rng.uniform(1e-3, 50, 19)
    places = np.arange(200)[:, None] + rng.uniform(-0.05, 0.05, (200, 19))
    thresholds = (first + step * places).astype(F)
    direction = rng.choice([-1, 1], 19).astype(np.int8)
    quantize = op.Quantize(thresholds=thresholds, direction=direction, low=-3, step=2)
    at = [thresholds, *(np.nextafter(thresholds, F(end)) for end in (-np.inf, np.inf))]
    beyond = np.repeat([*BAD, F(-1e38), F(1e38)], 19).reshape(-1, 19)
    x = np.concatenate([*at, beyond]) * direction
    assert check(chain((19,), quantize), x.astype(F)) >= {"EVEN_LEVELS"}


def test_levels_that_are_far_apart_are_not_guessed():
    thresholds = np.array([-3e38, 0, *np.arange(1, 20), 3e38], F)
    x = np.array([[*thresholds, *BAD]], F).T
    assert check(chain((1,), op.Quantize(thresholds=thresholds)), x) >= {"LEVELS"}


def test_a_bad_number_stays_in_its_group():
    x = halves(2, 5, 5, 6)
    x[0, 2, 2, 0], x[1, 1, 1, 5] = np.inf, np.nan
    check(chain((5, 5, 6), conv(integers(6, 2, 2, 2), groups=3)), x)
