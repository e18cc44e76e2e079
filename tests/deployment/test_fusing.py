"""What integer targets read of a model: the rewrites, and NumPy integers against Keras."""

import itertools

import keras
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from keras import layers

import qframe as qf
from examples import settings
from integer_sums import integer_sums
from qframe.deployment.graph import fusing
from qframe.deployment.graph import operations as op
from qframe.deployment.graph.checks import float_layers, require_grids
from qframe.deployment.graph.fused import Fused
from qframe.deployment.graph.fusing import fuse
from qframe.deployment.graph.graph import Graph, Node
from qframe.deployment.graph.kernels import Kernel
from qframe.deployment.graph.reference import run, tensors_of
from qframe.deployment.lowering import ExportTarget, lower
from qframe.errors import DataError, ExportError

pytestmark = [
    pytest.mark.ends,
    pytest.mark.two_backends,
    pytest.mark.filterwarnings("ignore::qframe.errors.StarvedWeightsWarning"),
]
F = np.float32


def quantizers(bits, symmetric, granularity):
    """Of activations and of weights."""
    if bits == 1:
        return (
            "ste_sign",
            "magnitude_aware_sign" if granularity == "channel" else "ste_sign",
        )
    return (
        f"integer(bits={bits}, symmetric={symmetric}, gather='widest')",
        f"integer(bits={bits}, granularity={granularity!r}, narrow_range=True)",
    )


def network(activations, weights):
    """Every product, and with each the quantizer behind it, by the paths of both."""
    name, pairs = itertools.count(), {}

    def quantize(x, maker):
        quantizer = qf.quantizers.get(activations)
        quantizer.name = f"q{next(name)}"
        pairs[maker] = quantizer
        return quantizer(x)

    def finish(x, relu=activations != "ste_sign"):
        x = layers.BatchNormalization()(x)
        return layers.ReLU(max_value=6.0)(x) if relu else x

    x = inputs = keras.Input((9, 8, 2))
    x = quantize(x, "")
    kernel = {"kernel_quantizer": weights, "use_bias": False}
    x = qf.layers.QuantConv2D(6, 3, padding="same", name="conv", **kernel)(x)
    x = quantize(finish(x), "conv")
    x = qf.layers.QuantConv2D(8, 3, strides=2, padding="same", name="strided", **kernel)(x)
    x = p = layers.MaxPooling2D(padding="same")(quantize(finish(x), "strided"))
    x = qf.layers.QuantDepthwiseConv2D(
        3, padding="same", depthwise_quantizer=weights, name="depthwise"
    )(x)
    x = quantize(finish(x), "depthwise")
    x = quantize(layers.Add(name="add")([p, x]), "add")
    x = quantize(layers.GlobalAveragePooling2D(name="mean")(x), "mean")
    x = qf.layers.QuantDense(5, kernel_quantizer=weights, name="dense")(x)
    return keras.Model(inputs, quantize(x, "dense")), pairs


def as_trained(model, seed=0):
    """Batch norm of both signs, biases, and ranges of activations."""
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            size = layer.gamma.shape
            layer.gamma.assign(rng.choice([-1.5, -0.5, 0.5, 1.5], size))
            layer.beta.assign(rng.normal(size=size))
            layer.moving_mean.assign(rng.normal(0, 0.3, size))
            layer.moving_variance.assign(rng.uniform(0.1, 0.6, size))
        elif getattr(layer, "bias", None) is not None:
            layer.bias.assign(rng.normal(0, 0.2, layer.bias.shape))
    x = rng.normal(size=(12, *model.input_shape[1:])).astype("float32")
    if any(getattr(q, "gather", None) for q in model.layers):
        qf.calibrate(model, x, verbose=0)
    return x


def exact(node, inputs):
    """What a fused node returns before it is quantized, in float64."""
    operation = node.operation.operation
    if node.operation.is_product:
        sums = integer_sums(operation, *inputs) + node.operation.bias
        y = sums * node.operation.scale.astype(np.float64)
    else:
        x = [a * s for a, s in zip(inputs, node.operation.scales, strict=True)]
        y = x[0].mean(axis=(1, 2)) if isinstance(operation, op.GlobalPool) else x[0] + x[1]
    if node.operation.activation is not None:
        y = np.clip(y, 0, node.operation.activation.most)
    return y


CASES = [
    *((8, symmetric, of) for symmetric in (True, False) for of in ("tensor", "channel")),
    *((4, True, "tensor"), (4, False, "channel")),
    *((2, True, "channel"), (2, False, "tensor")),
    *((1, True, "tensor"), (1, True, "channel")),
]


@pytest.mark.parametrize("flatten", [False, True])
def test_a_narrow_range_and_a_full_one_are_joined(flatten):
    """A quantizer that changes no integer still widens the range of what is joined."""
    x = keras.Input((2, 2))
    parts = [
        qf.quantizers.get(f"integer(narrow_range={narrow}, gather='widest')")(part)
        for narrow, part in ((True, x), (False, layers.ReLU()(x)))
    ]
    parts = [layers.Flatten()(part) for part in parts] if flatten else parts
    full = qf.quantizers.get("integer(gather='widest')")
    model = keras.Model(x, full(layers.Concatenate()(parts)))
    data = np.random.default_rng(0).uniform(-1, 1, (5, 2, 2)).astype(F)
    data[0] = 2.0  # the largest number of all parts, so that they have one scale
    qf.calibrate(model, data, verbose=0)
    graph = fuse(lower(model, ExportTarget("mine")))
    found = tensors_of(graph, data)[graph.outputs[0]]
    np.testing.assert_allclose(found, model.predict(data, verbose=0), rtol=1e-6)


@pytest.mark.every_case
@pytest.mark.parametrize(("bits", "symmetric", "granularity"), CASES)
def test_integers_of_numpy_are_those_of_keras(bits, symmetric, granularity):
    """Each node from Keras's own integers: equal, but where the rounding of its bias, or of
    floats, explains the difference."""
    model, pairs = network(*quantizers(bits, symmetric, granularity))
    x = as_trained(model)
    lowered = lower(model, ExportTarget("mine"))
    graph = fuse(lowered)
    require_grids(graph, "mine")
    values = graph.values()
    # As Keras computes them, by the path of the layer in front of each quantizer.
    outputs = keras.Model(model.inputs, [q.output for q in pairs.values()])(x)
    reals = {k: keras.ops.convert_to_numpy(y) for k, y in zip(pairs, outputs, strict=True)}
    tensors = [x]
    differ = count = 0
    for key, node in enumerate(graph.nodes, 1):
        inputs = [tensors[i] for i in node.inputs]
        if not isinstance(node.operation, Fused):
            tensors.append(run(node.operation, *inputs))
            continue
        grid = values[key].grid
        product = node.operation.operation
        if node.operation.is_product:
            # All that a target writes of a product.
            kernel, bias = product.kernel, node.operation.bias
            assert (kernel.scale > 0).all()
            assert kernel.scale.shape == bias.shape == kernel.shape[:1]
            assert (kernel.scale.dtype, bias.dtype) == (F, np.int32)
            assert max(abs(kernel.span.low), kernel.span.high) <= max(
                1, 2 ** (bits - 1) - 1
            )
            assert values[node.inputs[0]].grid.rounding == (
                None if bits == 1 else "half_even"
            )
            assert (node.operation.activation is None) is (
                bits == 1 or node.name == "dense"
            )
        wanted = np.rint(reals[node.name] / F(grid.scale)).astype(np.int32)
        before = exact(node, inputs)
        integers = run(node.operation.quantize, before.astype(F))
        # Half a step of the sums for the bias, and float32 for the rest.
        unsure = 1e-5 * np.abs(before).max()
        if node.operation.is_product:
            unsure = unsure + 0.5 * node.operation.scale
        low, high = (
            run(node.operation.quantize, (before + end * unsure).astype(F))
            for end in (-1, 1)
        )
        assert ((low <= wanted) & (wanted <= high)).all()
        differ, count = differ + (integers != wanted).sum(), count + wanted.size
        tensors.append(wanted)
    assert differ <= {8: 0.002, 4: 0.04, 2: 0.2, 1: 0.001}[bits] * count
    assert {node.name for node in graph.nodes} >= {*pairs} - {""}
    # From the input to the output, with biases as floats, little else is left to differ.
    graph = fuse(lowered, fusing.FLOAT_BIAS_RULES)
    found = tensors_of(graph, x)[graph.outputs[0]]
    steps = np.abs(found - reals["dense"]) / grid.scale
    assert np.mean(steps < 0.5) > 0.98
    assert bits < 8 or steps.max() < 1.5


def chain(*steps, shape=(4, 4, 2)):
    nodes = tuple(Node(step, (i,), f"layer{i}") for i, step in enumerate(steps))
    return Graph((shape,), nodes, (len(steps),))


def levels(scale=0.5, count=8, low=0):
    wanted = (np.arange(count - 1) + 0.5 + low).astype(F) * F(scale)
    return op.Quantize(wanted, low=low, step=1, scale=scale, rounding="half_even")


@st.composite
def dyadic(draw):
    """A chain whose numbers float32 holds, so that no rule rounds."""
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    shape, steps = (7, 6, 3), [levels()]

    def perhaps(*more):
        steps.extend(more if draw(st.booleans()) else ())

    pool, pad = op.MaxPool(pool=(2, 2), strides=(1, 1)), op.Pad(pads=(1, 0, 0, 1))
    groups = draw(st.sampled_from([1, 3]))
    kernel = rng.integers(-3, 4, (6, 3, 3, 3 // groups))
    scale = rng.choice([0.25, 0.5, 1], draw(st.sampled_from([(), (6,)])))
    pads = draw(st.sampled_from([(0, 0, 0, 0), (1, 1, 1, 1)]))
    product = op.Conv2D(kernel=Kernel(kernel, F(scale)), groups=groups, pads=pads)
    if draw(st.booleans()):
        steps.append(op.Dequantize(scale=0.5))
        lines = op.Affine(scale=F(2)), op.Affine(shift=F(-1))
        perhaps(*lines, levels(), op.Dequantize(scale=0.5))
        steps += [pad, product]
    else:
        steps += [product, *[pool] * (not scale.shape), op.Dequantize(scale=0.5 * scale)]
    signs = [0.5, 1, 2] if draw(st.booleans()) else [-2, -0.5, 0.25, 1]
    perhaps(op.Affine(shift=F(rng.integers(-9, 9, 6) / 2)))
    perhaps(pool)
    perhaps(op.Affine(scale=F(rng.choice(signs, 6)), shift=F(rng.integers(-9, 9, 6))))
    perhaps(op.Activation(function="relu", most=draw(st.sampled_from([None, 6]))))
    perhaps(pool)
    perhaps(pad)
    size = int(np.prod(chain(*steps, shape=shape).values()[-1].shape))
    perhaps(op.Reshape(shape=(1, size)), op.Reshape(shape=(size,)))
    perhaps(levels(low=draw(st.sampled_from([0, -4]))))
    if isinstance(steps[-1], op.Quantize):
        perhaps(op.Dequantize(scale=0.5), levels(draw(st.sampled_from([0.5, 1.0]))))
    return chain(*steps, shape=shape)


def drawn(graph):
    rng = np.random.default_rng(0)
    return rng.integers(-4, 12, (3, *graph.inputs[0])).astype(F) / 4


@given(dyadic())
@settings(max_examples=100)
def test_rules_change_no_bit_where_nothing_is_rounded(graph):
    x = drawn(graph)
    found = fuse(graph)
    np.testing.assert_array_equal(
        tensors_of(found, x)[found.outputs[0]], tensors_of(graph, x)[graph.outputs[0]]
    )


def test_graphs_meet_every_rule_of_a_chain():
    """Or the property above could not fail."""
    met = set()

    def noted(rule):
        def apply(draft, key, node):
            changed = rule(draft, key, node)
            met.update([rule.__name__] if changed else [])
            return changed

        return apply

    @given(dyadic())
    @settings(max_examples=100)
    def meet(graph):
        fuse(graph, tuple(map(noted, fusing.RULES)))

    meet()
    assert met == {rule.__name__ for rule in fusing.RULES} - {
        "merge_repeated",
        "quantize_rows",
        "scale_matmul",
    }


@pytest.mark.parametrize("scale", [None, 0.5, np.geomspace(0.1, 2, 9)])
@pytest.mark.parametrize("relu", [False, True])
def test_rows_are_quantized_before_they_are_looked_up(scale, relu):
    """Floats, integers with one scale, or with a scale for each row."""
    rng = np.random.default_rng(0)
    integers = rng.integers(-7, 8, (9, 4))
    nodes = []

    def add(operation, *inputs):
        nodes.append(Node(operation, inputs, "rows"))
        return len(nodes)

    if scale is None:
        real = add(op.Lookup(kernel=rng.normal(size=(9, 4)).astype(F)), 0)
    elif np.ndim(scale):
        whole = add(op.Dequantize(), add(op.Lookup(kernel=Kernel(integers)), 0))
        scales = add(op.Lookup(kernel=F(scale)[:, None].repeat(4, 1)), 0)
        real = add(op.Merge(function="multiply"), whole, scales)
    else:
        kernel = Kernel(integers, F(scale))
        real = add(op.Dequantize(scale=scale), add(op.Lookup(kernel=kernel), 0))
    real = add(op.Activation(function="relu"), real) if relu else real
    outputs = (add(levels(0.3, 16, -8), real),)
    graph = Graph(((3,),), tuple(nodes), outputs)
    found = fuse(graph)
    x = F([[0, 8, 3], [1, 1, 7]])
    np.testing.assert_array_equal(
        tensors_of(found, x)[found.outputs[0]], tensors_of(graph, x)[graph.outputs[0]]
    )
    assert float_layers(found) == []
    assert [node.operation.name for node in found.nodes] == ["fused"]


def test_a_tensor_that_two_layers_quantize_alike_is_quantized_once():
    quantize, dense = levels(), op.Dense(kernel=Kernel(np.ones((2, 2), int)))
    real = op.Dequantize(scale=0.5)
    nodes = (
        *(Node(quantize, (0,), "a"), Node(quantize, (0,), "b")),
        *(Node(dense, (1,), "c"), Node(dense, (2,), "d")),
        *(Node(real, (3,), "e"), Node(real, (4,), "f")),
        Node(op.Merge(function="add"), (5, 6), "add"),
    )
    graph = fuse(Graph(((2,),), nodes, (7,)))
    assert [node.name for node in graph.nodes] == ["a", "c", "d", "add"]


def test_sums_that_two_layers_read_become_floats_once():
    dense = op.Dense(kernel=Kernel(np.ones((2, 2), int)))
    real = op.Dequantize(scale=0.5)
    nodes = (
        *(Node(levels(), (0,), "q"), Node(dense, (1,), "dense")),
        *(Node(real, (2,), "a"), Node(real, (2,), "b")),
        Node(op.Merge(function="add"), (3, 4), "add"),
    )
    graph = fuse(Graph(((2,),), nodes, (5,)))
    assert [node.operation.name for node in graph.nodes] == ["quantize", "fused", "merge"]


def normalized(gamma, beta, x=0.5, kernel=1.0):
    """A product with batch norm, fused."""
    steps = (
        levels(x),
        op.Dense(kernel=Kernel(np.array([[3, -2]] * len(gamma)), F(kernel))),
        op.Dequantize(scale=x * kernel),
        op.Affine(scale=F(gamma), shift=F(beta)),
        levels(0.25, 200, -100),
    )
    return fuse(chain(*steps, shape=(2,))).nodes[1].operation


def test_a_negative_scale_turns_the_integers_of_its_channel_around():
    found = normalized([2, -4, 0.5], [1, 0, -3])
    kernel = found.operation.kernel
    assert kernel.integers().tolist() == [[3, -2], [-3, 2], [3, -2]]
    assert kernel.scale.tolist() == [2, 4, 0.5]
    assert found.bias.tolist() == [1, 0, -12]


@pytest.mark.parametrize("gamma", [0.0, 1e-12, -1e-12])
def test_a_channel_that_batch_norm_switches_off_keeps_its_bias(gamma):
    found = normalized([gamma, 1], [10, 1])
    assert (found.operation.kernel.integers()[0] == 0).all()
    assert found.operation.kernel.scale[0] > 0
    assert found.bias[0] * found.scale[0] == pytest.approx(10, rel=1e-6)
    assert found.operation.kernel.integers()[1].tolist() == [3, -2]


def test_a_channel_of_zeros_has_a_scale():
    found = normalized([0], [0])
    assert (found.operation.kernel.scale.tolist(), found.bias.tolist()) == ([1], [0])


def test_a_bias_that_int32_holds_only_with_another_scale():
    found = normalized([1e-9], [100])
    kernel = found.operation.kernel
    assert found.bias[0] * found.scale[0] == pytest.approx(100, rel=1e-6)
    assert np.abs(found.bias).max() <= 2**30
    # The integers that are left stand for what they stood for, to half a step.
    assert (
        np.abs(kernel.integers() * kernel.scale - [[3e-9, -2e-9]]).max() <= kernel.scale[0]
    )


def test_a_float_kernel_takes_the_scale_too():
    kernel = np.ones((2, 2), F)
    norm = op.Affine(scale=F([2, -1]), shift=F([1, 2]))
    graph = chain(op.Dense(kernel=kernel), norm, levels(), shape=(2,))
    (node,) = fuse(graph).nodes
    assert node.operation.operation.kernel.tolist() == [[2, 2], [-1, -1]]
    assert node.operation.bias.tolist() == [1, 2]
    assert node.operation.quantize is graph.nodes[-1].operation


def test_pools_behind_a_negative_scale_stay():
    """The maximum of sums is not that of the turned ones."""
    pool = op.MaxPool()
    conv = op.Conv2D(kernel=Kernel(np.ones((2, 1, 1, 2), int)))
    for gamma, edge in ((1, []), (-1, ["layer1", "layer3"])):
        norm = op.Affine(scale=F([1, gamma]))
        graph = chain(levels(), conv, op.Dequantize(scale=0.5), pool, norm, levels())
        assert float_layers(fuse(graph)) == edge


def test_padding_that_is_on_the_grid_is_of_integers():
    quantized = (levels(low=-2), op.Dequantize(scale=0.5), op.Pad(pads=(1, 1, 1, 1)))
    conv = op.Conv2D(kernel=Kernel(np.ones((2, 3, 3, 2), int)))
    graph = chain(*quantized, conv, levels())
    found = fuse(graph)
    assert [n.operation.name for n in found.nodes] == ["quantize", "pad", "fused"]
    x = drawn(graph)
    np.testing.assert_array_equal(tensors_of(found, x)[-1], tensors_of(graph, x)[-1])
    signs = op.Quantize(np.zeros(1, F))
    graph = chain(signs, op.Dequantize(), op.Pad(pads=(1, 1, 1, 1)), conv, levels())
    assert float_layers(fuse(graph))[0] == "layer1"


def edges(*parts, shape=(6, 6, 2)):
    model = keras.Sequential([keras.Input(shape), *parts])
    return fuse(lower(model, ExportTarget("mine")))


SIGNS = {"input_quantizer": "ste_sign", "kernel_quantizer": "ste_sign"}
FLOAT_EDGES = {
    "the input": (lambda: [layers.ReLU(name="relu")], "relu"),
    "a float kernel": (
        lambda: [qf.layers.QuantDense(2, input_quantizer="ste_sign", name="dense")],
        "dense",
    ),
    "no quantizer at the end": (
        lambda: [qf.layers.QuantDense(2, **SIGNS, name="dense")],
        "dense",
    ),
    "an activation in between": (
        lambda: [
            qf.layers.QuantDense(2, activation="tanh", **SIGNS, name="first"),
            qf.layers.QuantDense(2, output_quantizer="ste_sign", **SIGNS, name="second"),
        ],
        "first",
    ),
    "sums that a product reads": (
        lambda: [
            qf.layers.QuantSeparableConv2D(
                2,
                3,
                input_quantizer="ste_sign",
                depthwise_quantizer="ste_sign",
                pointwise_quantizer="ste_sign",
                output_quantizer="ste_sign",
                name="separable",
            ),
        ],
        "separable",
    ),
}


@pytest.mark.parametrize("case", FLOAT_EDGES)
def test_the_first_float_edge_is_named(case):
    make, path = FLOAT_EDGES[case]
    graph = edges(*make())
    assert float_layers(graph)[0] == path
    with pytest.raises(ExportError, match=f"'mine' takes integers .* float32: '{path}'"):
        require_grids(graph, "mine")


def test_integers_at_the_output_are_no_float_edge():
    graph = edges(qf.layers.QuantDense(2, output_quantizer="ste_sign", **SIGNS))
    assert [n.operation.name for n in graph.nodes] == ["quantize", "fused", "dequantize"]
    assert float_layers(graph) == []


def test_a_second_quantizer_changes_the_grid_or_is_left_out():
    for word, names in (
        ("ste_sign", ["quantize", "dequantize"]),
        ("dorefa(k_bit=2)", ["quantize", "fused", "dequantize"]),
    ):
        second = qf.quantizers.get(word)
        graph = edges(qf.quantizers.SteSign(), layers.Flatten(), second, shape=(2, 3))
        found = [n.operation.name for n in graph.nodes]
        assert [name for name in found if name != "reshape"] == names
        assert float_layers(graph) == []


@given(st.data())
@settings(max_examples=30)
def test_rounded_scales_move_only_what_is_at_a_boundary(data):
    """Any scales: the integers differ where the exact number is within the rounding."""
    rng = np.random.default_rng(data.draw(st.integers(0, 2**16)))
    kernel = Kernel(rng.integers(-127, 128, (5, 20)), F(rng.uniform(1e-3, 0.1, 5)))
    x = levels(float(F(rng.uniform(1e-3, 0.1))), 256, -128)
    norm = op.Affine(scale=F(rng.normal(size=5)), shift=F(rng.normal(size=5)))
    scale = x.scale * kernel.scale
    real = op.Dequantize(scale=scale)
    steps = (x, op.Dense(kernel=kernel), real, norm)
    graph = chain(*steps, shape=(20,))
    inputs = rng.normal(0, 64 * x.scale, (50, 20)).astype(F)
    floats = tensors_of(graph, inputs)[-1]
    assume(np.abs(floats).max() > 0)
    out = levels(float(F(np.abs(floats).max() / 127)), 256, -128)
    graph = chain(*steps, out, shape=(20,))
    found = fuse(graph)
    here, there = (tensors_of(g, inputs)[-1] for g in (found, graph))
    product = found.nodes[-1].operation
    unsure = 0.5 * product.scale + 1e-5 * np.abs(floats).max()
    low, high = (run(out, (floats + end * unsure).astype(F)) for end in (-1, 1))
    assert ((low <= here) & (here <= high)).all()
    assert ((low <= there) & (there <= high)).all()


def test_sums_that_are_read_before_they_are_scaled_stay():
    dense = op.Dense(kernel=Kernel(np.ones((2, 2), int)))
    readers = op.Dequantize(scale=0.5), op.Reshape(shape=(2,))
    nodes = (
        *(Node(levels(), (0,), "q"), Node(dense, (1,), "dense")),
        *(Node(reader, (2,), reader.name) for reader in readers),
    )
    graph = fuse(Graph(((2,),), nodes, (3, 4)))
    assert [node.operation.name for node in graph.nodes][:2] == ["quantize", "dense"]
    assert float_layers(graph)[0] == "dense"


def test_batch_norm_behind_an_activation_stays():
    relu, norm = op.Activation(function="relu"), op.Affine(scale=F([1, 2]))
    dense = op.Dense(kernel=Kernel(np.ones((2, 2), int)))
    steps = levels(), dense, op.Dequantize(scale=0.5), relu, norm, levels()
    graph = fuse(chain(*steps, shape=(2,)))
    kinds = [type(getattr(n.operation, "operation", n.operation)) for n in graph.nodes]
    assert kinds == [op.Quantize, op.Dense, op.Affine]
    assert float_layers(graph)[0] == "layer1"


def test_a_learned_activation_is_not_fused_with_another():
    slopes, relu = op.PReLU(alpha=F([0.5, 0.5])), op.Activation(function="relu")
    steps = levels(), op.Dequantize(scale=0.5), slopes, relu, levels()
    graph = fuse(chain(*steps, shape=(2,)))
    names = [node.operation.name for node in graph.nodes]
    assert names == ["quantize", "dequantize", "prelu", "fused"]


@pytest.mark.parametrize("scales", [(), (None,), (0.5, 0.5)])
def test_a_fused_operation_has_a_scale_for_each_input_of_integers(scales):
    merge = Fused(op.Merge(function="add"), scales)
    nodes = Node(levels(), (0,), "a"), Node(merge, (1, 1), "add")
    graph = Graph(((2,),), nodes, (2,))
    if len(scales) == 2:
        assert graph.values()[-1].grid is None
        return
    with pytest.raises(DataError, match=r"fused of 'add': it has \d scales for 2 inputs"):
        graph.values()


def test_a_fused_operation_has_no_scale_for_floats():
    graph = chain(Fused(op.Affine(), (0.5,)), shape=(2,))
    with pytest.raises(DataError, match="integers have a scale, and floats have none"):
        graph.values()


@pytest.mark.parametrize(("scale", "pad"), [(-0.5, 0.0), (0.5, 0.3)])
def test_a_product_reads_floats_where_integers_would_be_others(scale, pad):
    conv = op.Conv2D(kernel=Kernel(np.ones((2, 1, 1, 2), int)), pad=pad)
    graph = chain(levels(), op.Dequantize(scale=scale), conv, levels())
    names = [node.operation.name for node in fuse(graph).nodes]
    assert names[:2] == ["quantize", "dequantize"]


@pytest.mark.parametrize("bias", [0.0, 7.0, 6e5, 1e6, 1e7])
def test_a_large_bias_before_a_sign_changes_no_sign(bias):
    """Sums of products reach it: 512 inputs of 8 bits are up to 8e6 steps."""
    halves = np.arange(255) - 126.5
    quantize = op.Quantize(thresholds=halves.astype(F), low=-127, step=1)
    size, whole = 1024, int(bias)
    kernel = np.full((1, size), 127)
    kernel[0, -200:] = 1
    # Inputs whose sum of products is the bias, and the integers beside it.
    x = np.zeros((3, size), F)
    for row, total in enumerate((whole - 1, whole, whole + 1)):
        total = max(total, 0)
        large, rest = divmod(total, 127 * 127)
        x[row, :large] = -127
        middle, rest = divmod(rest, 127)
        x[row, large] = -middle
        x[row, -1] = -rest
    parts = (
        *(quantize, op.Dense(kernel=Kernel(kernel)), op.Dequantize()),
        *(op.Affine(shift=np.array([bias], F)), op.Quantize(thresholds=np.zeros(1, F))),
    )
    nodes = tuple(Node(part, (i,)) for i, part in enumerate((*parts, op.Dequantize())))
    graph = Graph(((size,),), nodes, (6,))
    expected = np.where(-np.maximum(whole + np.arange(-1, 2), 0) + whole >= 0, 1, -1)
    for each in (graph, fuse(graph)):
        assert tensors_of(each, x)[-1].ravel().tolist() == expected.tolist()


MOVERS = {
    "max_pool": op.MaxPool(),
    "global_pool": op.GlobalPool(function="max"),
    "reshape": op.Reshape(shape=(32,)),
    "pad": op.Pad(pads=(1, 0, 0, 1)),
}


@pytest.mark.parametrize("mover", MOVERS)
@pytest.mark.parametrize("direction", [None, (1, -1)])
@pytest.mark.parametrize("channels", [1, 2])
def test_a_quantizer_of_channels_behind_what_moves_numbers_gives_the_same(
    mover, direction, channels
):
    operation = MOVERS[mover]
    wide = mover == "reshape"
    count = 32 if wide else 2
    thresholds = np.sort(np.random.default_rng(0).normal(size=(3, count)), 0).astype(F)
    turned = None if direction is None else np.resize(direction, count).astype(np.int8)
    quantize = op.Quantize(
        thresholds=thresholds if channels > 1 else thresholds[:, 0], direction=turned
    )
    parts = op.Affine(scale=F(0.5)), operation, quantize, op.Dequantize()
    nodes = tuple(Node(part, (i,)) for i, part in enumerate(parts))
    graph = Graph(((4, 4, 2),), nodes, (4,))
    x = np.random.default_rng(1).normal(size=(20, 4, 4, 2)).astype(F)
    found, expected = (tensors_of(each, x)[-1] for each in (fuse(graph), graph))
    np.testing.assert_array_equal(found, expected)
