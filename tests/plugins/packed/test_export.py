"""Keras models as packed ones: the same outputs, or a refusal that says what to do."""

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras import layers
from safetensors.numpy import load_file

import qframe as qf
from examples import settings
from packed_graphs import names_of
from packed_models import check, data_of, exported, randomized
from qframe.deployment.graph.reference import run
from qframe.deployment.lowering.activations import quantize_of
from qframe.errors import (
    ArgumentError,
    ExportError,
    NotBuiltError,
    QFrameError,
)

SIGNS = {"input_quantizer": "ste_sign", "kernel_quantizer": "ste_sign"}
pytestmark = [
    pytest.mark.ends,
    pytest.mark.two_backends,  # a file is made of weights and configs
    pytest.mark.filterwarnings("ignore::qframe.errors.StarvedWeightsWarning"),
]


def convolution(**arguments):
    return qf.layers.QuantConv2D(6, 3, **{**SIGNS, "use_bias": False, **arguments})


CONVOLUTIONS = {
    "plain": {},
    "strided": {"strides": 2, "padding": "same"},
    "dilated": {"dilation_rate": 2, "padding": "same"},
    "grouped": {"groups": 2},
    "zeros outside": {"padding": "same", "pad_values": 0.0},
    "ones outside": {"padding": "same", "pad_values": 1.0},
    "minus ones outside": {"padding": "same", "pad_values": -1.0},
    "biased": {"use_bias": True, "activation": "relu"},
    "scaled": {"kernel_quantizer": "magnitude_aware_sign"},
    "xnor": {"kernel_quantizer": "xnor_sign"},
    "ternary": {"kernel_quantizer": "ste_tern"},
    "dorefa": {
        "kernel_quantizer": "dorefa(k_bit=3, mode='weights')",
        "input_quantizer": "dorefa(k_bit=2)",
    },
    "dorefa padded with ones": {
        "input_quantizer": "dorefa(k_bit=2)",
        "padding": "same",
        "pad_values": 1.0,
    },
    "zeros and ones": {"input_quantizer": "ste_heaviside", "padding": "same"},
    "integers by channel": {
        "kernel_quantizer": "integer(bits=4, granularity='channel')",
        "input_quantizer": None,
    },
    "float input": {"input_quantizer": None, "padding": "same", "pad_values": 0.5},
    "float kernel": {"kernel_quantizer": None},
    "output": {"output_quantizer": "ste_sign"},
    "noop": {"input_quantizer": "noop(precision=8)", "kernel_quantizer": None},
}


@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_convolutions(case, tmp_path):
    layer = convolution(**CONVOLUTIONS[case])
    model = keras.Sequential([keras.Input((7, 6, 4)), layer])
    runtime = check(randomized(model), tmp_path)
    names = names_of(runtime.graph)
    assert names.count("conv2d") == 1
    assert (names[0] == "quantize") is ("quantizer=None" not in _key(layer))


def _key(layer):
    """Whether its input is quantized, as text."""
    quantizer = layer.input_quantizer
    return "quantizer=None" if quantizer is None or quantizer.traits.tag else ""


LAYERS = {
    "depthwise": lambda: qf.layers.QuantDepthwiseConv2D(
        3,
        depth_multiplier=2,
        padding="same",
        pad_values=1.0,
        input_quantizer="ste_sign",
        depthwise_quantizer="magnitude_aware_sign",
    ),
    "separable": lambda: qf.layers.QuantSeparableConv2D(
        5,
        3,
        strides=2,
        padding="same",
        input_quantizer="ste_sign",
        depthwise_quantizer="ste_sign",
        pointwise_quantizer="ste_tern",
    ),
    "dense on images": lambda: qf.layers.QuantDense(3, **SIGNS),
    "maximum": lambda: layers.MaxPooling2D(3, strides=2, padding="same"),
    "average": lambda: layers.AveragePooling2D(3, strides=1, padding="same"),
    "average, unevenly padded": lambda: layers.AveragePooling2D(3, 2, padding="same"),
    "global maximum": lambda: layers.GlobalMaxPooling2D(keepdims=True),
    "global average": lambda: layers.GlobalAveragePooling2D(),
    "batch norm": lambda: layers.BatchNormalization(epsilon=0.1),
    "padding": lambda: layers.ZeroPadding2D(((1, 2), (0, 3))),
    "reshape": lambda: layers.Reshape((-1, 3)),
    "flatten": lambda: layers.Flatten(),
    "relu": lambda: layers.ReLU(max_value=1.5, negative_slope=0.1, threshold=0.2),
    "leaky relu": lambda: layers.LeakyReLU(negative_slope=0.3),
    "prelu": lambda: layers.PReLU(alpha_initializer="random_normal", shared_axes=(1, 2)),
    "elu": lambda: layers.ELU(alpha=0.7),
    "softmax": lambda: layers.Softmax(),
    "rescaling": lambda: layers.Rescaling(2.0, offset=-1.0),
    "dropout": lambda: layers.Dropout(0.5),
    "sign as activation": lambda: layers.Activation(qf.quantizers.get("ste_sign")),
    "sign as layer": lambda: qf.quantizers.SteSign(),
}


@pytest.mark.parametrize("case", LAYERS)
def test_layers(case, tmp_path):
    if case == "average, unevenly padded" and keras.backend.backend() == "torch":
        pytest.skip("on PyTorch Keras repeats the edge there, and nowhere else")
    model = keras.Sequential([keras.Input((6, 7, 4)), LAYERS[case]()])
    check(randomized(model), tmp_path)


@pytest.mark.parametrize(
    "name",
    [
        *("elu", "exponential", "hard_sigmoid", "leaky_relu", "linear", "relu", "relu6"),
        *("sigmoid", "silu", "softmax", "softplus", "softsign", "tanh"),
        *("hard_tanh", "leaky_tanh"),
    ],
)
def test_activations(name, tmp_path):
    function = qf.activations.get(name)
    model = keras.Sequential([keras.Input((4, 5)), layers.Activation(function)])
    check(model, tmp_path)


def test_merges_branches_and_nested_models(tmp_path):
    inner_input = keras.Input((6, 6, 4))
    y = layers.BatchNormalization()(convolution(padding="same")(inner_input))
    inner = keras.Model(inner_input, y, name="inner")
    x, other = keras.Input((6, 6, 4)), keras.Input((6, 6, 6))
    a = inner(x)
    b = keras.Sequential([layers.Conv2D(6, 1), layers.ReLU()], name="side")(x)
    merged = [
        getattr(layers, name)()([a, b])
        for name in ("Add", "Subtract", "Multiply", "Maximum", "Minimum", "Average")
    ]
    y = layers.Concatenate()([*merged, inner(x), other])
    z = layers.GlobalAveragePooling2D(keepdims=True)(y)
    model = keras.Model([x, other], [layers.Multiply()([y, z]), layers.Flatten()(a)])
    runtime = check(randomized(model), tmp_path)
    assert {"inner/quant_conv2d", "side/conv2d"} <= {
        node.name.rstrip("_0123456789") for node in runtime.graph.nodes
    }
    candidates = (getattr(node.operation, "kernel", None) for node in runtime.graph.nodes)
    kernels = [kernel for kernel in candidates if kernel is not None]
    assert len(kernels) == 3  # the inner model is called twice, and stored once
    # Both kernels, the threshold, a scale, a shift and a bias.
    assert len(load_file(tmp_path / "m.safetensors")) == 6


def residual(x, pool):
    """A block as of Bi-Real Net: pooled signs, and a path around them."""
    y = convolution(padding="same", pad_values=1.0)(x)
    y = layers.BatchNormalization()(y)
    y = layers.Add()([x, y])
    if pool:
        y = layers.MaxPooling2D()(y)
    return y


QUANTIZERS = (
    *({}, {"kernel_quantizer": "magnitude_aware_sign"}, {"kernel_quantizer": "ste_tern"}),
    {"kernel_quantizer": "dorefa(k_bit=2, mode='weights')"},
    {"input_quantizer": "dorefa(k_bit=2)"},
    {"input_quantizer": "approx_sign", "padding": "same", "pad_values": -1.0},
    {"padding": "same", "strides": 2},
)


def network(draw):
    """Small networks: convolutions, norms, pools, residuals, a dense end."""
    size = draw(st.integers(5, 8))
    x = inputs = keras.Input((size, size, draw(st.sampled_from([1, 3]))))
    x = qf.layers.QuantConv2D(
        6, 3, padding="same", kernel_quantizer=draw(st.sampled_from([None, "ste_sign"]))
    )(x)
    x = layers.BatchNormalization()(x)
    for _ in range(draw(st.integers(1, 2))):
        if draw(st.booleans()):
            x = residual(x, draw(st.booleans()))
        elif min(x.shape[1:3]) >= 3:
            x = convolution(**draw(st.sampled_from(QUANTIZERS)))(x)
            if draw(st.booleans()):
                x = layers.MaxPooling2D(2, padding="same")(x)
            x = layers.BatchNormalization(scale=draw(st.booleans()))(x)
            if draw(st.booleans()):
                x = layers.Activation(draw(st.sampled_from(["relu", "tanh"])))(x)
    x = layers.Flatten()(x)
    x = qf.layers.QuantDense(5, use_bias=draw(st.booleans()), **SIGNS)(x)
    x = layers.BatchNormalization(epsilon=draw(st.sampled_from([1e-5, 0.1])))(x)
    return randomized(keras.Model(inputs, x), draw(st.integers(0, 9)))


@given(st.data())
@settings(max_examples=6)
def test_networks(tmp_path_factory, data):
    # Made here and not in a strategy, as Keras draws numbers of its own.
    check(network(data.draw), tmp_path_factory.mktemp("packed"), rounded=True)


STEPPING = (
    *("ste_sign", "approx_sign", "swish_sign", "ste_heaviside", "ste_tern"),
    *("ste_tern(threshold_value=0.3)", "dorefa(k_bit=1)", "dorefa(k_bit=3)"),
    *("dorefa(k_bit=8)", "hwgq(bits=2)", "pact(bits=3)", "quantized_bits(bits=4)"),
)


@pytest.mark.parametrize("identifier", STEPPING)
def test_steps_are_those_of_the_quantizer(identifier):
    """To the bit: beside each threshold, at ties, at zeros and at subnormal numbers."""
    quantizer = qf.quantizers.get(identifier)
    steps = quantize_of(quantizer)
    inner = steps.thresholds
    near = [np.nextafter(inner, np.float32(end)) for end in (-np.inf, np.inf)]
    ties = np.arange(-40, 41, dtype="float32") / 16
    small = np.array([0, -0.0, 1e-40, -1e-40, 1e30, -1e30], "float32")
    drawn = np.random.default_rng(0).normal(size=500).astype("float32")
    x = np.concatenate([inner, *near, ties, small, drawn])
    actual = quantizer.integers(x)
    np.testing.assert_array_equal(run(steps, x), actual.values - actual.zero_point)
    assert steps.scale == actual.scale


@pytest.mark.parametrize(
    "identifier",
    [
        "lsq(bits=3)",
        "lsq(bits=2, signed=False)",
        "integer(bits=4, gather='widest')",
        "integer(bits=3, symmetric=False, gather='widest')",
    ],
)
def test_learned_and_gathered_steps(identifier, tmp_path):
    """The scale and the zero point are those that the model holds."""
    layer = convolution(input_quantizer=identifier, padding="same", name="conv")
    model = keras.Sequential([keras.Input((6, 6, 2)), layer])
    with pytest.raises(ExportError, match=r"qframe\.calibrate"):
        exported(model, tmp_path)
    qf.calibrate(model, data_of(model)[0], verbose=0)
    runtime = check(model, tmp_path)
    assert names_of(runtime.graph)[1:] == ["conv2d", "affine"]


class Doubled(keras.Model):
    def __init__(self):
        super().__init__(name="doubled")
        self.dense = layers.Dense(2)

    def call(self, x):
        return 2 * self.dense(x)


class OwnDense(layers.Dense):
    def call(self, x):
        return 2 * super().call(x)


class Standardized(layers.Conv2D):
    """Its kernel has the mean 0 when it is used, and not where it is kept."""

    def convolution_op(self, inputs, kernel):
        return super().convolution_op(inputs, kernel - keras.ops.mean(kernel))


class Traced(keras.Model):
    def _run_through_graph(self, *args, **kwargs):
        return super()._run_through_graph(*args, **kwargs)


class Documented(layers.Conv2D):
    def get_config(self):
        return {**super().get_config(), "name": "documented"}


def traced_by_hand(**arguments):
    x = keras.Input((4, 4, 2))
    return Traced(x, layers.Flatten()(x), **arguments)


def sequential(*parts, shape=(4, 4, 2)):
    return keras.Sequential([keras.Input(shape), *parts])


def doubled():
    model = Doubled()
    model(np.zeros((1, 3)))
    return model


def nested():
    block = keras.Sequential(
        [keras.Input((4, 3)), layers.RNN(layers.LSTMCell(2), name="loop")], name="block"
    )
    return sequential(block, shape=(4, 3))


REFUSED = {
    "a subclassed model": (doubled, "the call of 'doubled' is code"),
    "an unknown size": (lambda: sequential(layers.Dense(2), shape=(None, 2)), "every size"),
    "a nested layer": (
        nested,
        r"the layer 'block/loop' \(RNN\): the target has no such cell",
    ),
    "a layer of one's own": (
        lambda: sequential(OwnDense(2, name="mine")),
        r"the layer 'mine' \(OwnDense\)",
    ),
    "a convolution of one's own": (
        lambda: sequential(Standardized(2, 3, name="mine")),
        r"the layer 'mine' \(Standardized\): Standardized overrides convolution_op",
    ),
    "a graph of one's own": (
        lambda: traced_by_hand(name="mine"),
        "the model 'mine': Traced overrides _run_through_graph",
    ),
    "a nested graph of one's own": (
        lambda: sequential(traced_by_hand(name="mine")),
        r"the layer 'mine' \(Traced\): Traced overrides _run_through_graph",
    ),
    "an activation": (
        lambda: sequential(layers.Dense(2, activation=lambda x: x * x)),
        "its activation .* is not among linear, ",
    ),
    "channels first": (
        lambda: sequential(
            layers.ZeroPadding2D(data_format="channels_first"), shape=(2, 4, 4)
        ),
        "channels_last",
    ),
    "an axis": (lambda: sequential(layers.BatchNormalization(axis=1)), "normalizes axis 1"),
    "a plain function": (
        lambda: sequential(qf.layers.QuantDense(2, kernel_quantizer=lambda x: x)),
        "is not a qframe quantizer",
    ),
    "input scales of its own": (
        lambda: sequential(qf.layers.QuantDense(2, input_quantizer="magnitude_aware_sign")),
        "does not quantize each number by itself",
    ),
    "groups": (
        lambda: sequential(
            qf.layers.QuantDense(
                2, kernel_quantizer="integer(granularity='group', group_size=2)"
            ),
            shape=(4,),
        ),
        "a scale for each group",
    ),
    "no integers": (
        lambda: sequential(qf.layers.QuantDense(2, kernel_quantizer="quantized_po2")),
        "states no integers",
    ),
    "many levels": (
        lambda: sequential(qf.layers.QuantDense(2, input_quantizer="dorefa(k_bit=10)")),
        "more than 256 levels",
    ),
    "padding off the grid": (
        lambda: sequential(
            convolution(input_quantizer="dorefa(k_bit=2)", padding="same", pad_values=0.5)
        ),
        "pad_values=0.5 is not on the grid",
    ),
    "half precision": (
        lambda: sequential(layers.Dense(2, dtype="mixed_float16")),
        "computes in float16",
    ),
}


@pytest.mark.parametrize("quantizer", [None, "ste_sign", "dorefa(k_bit=3)"])
def test_transposed_convolutions_are_exported(quantizer, tmp_path):
    up = qf.layers.QuantConv2DTranspose(
        4,
        3,
        strides=2,
        padding="same",
        input_quantizer=quantizer,
        kernel_quantizer=quantizer,
    )
    check(keras.Sequential([keras.Input((5, 6, 3)), up, layers.ReLU()]), tmp_path)


def test_attention_is_exported(tmp_path):
    x = keras.Input((5, 6))
    model = keras.Model(x, layers.MultiHeadAttention(2, 3)(x, x))
    check(model, tmp_path)


def test_groups_that_are_whole_channels_are_exported(tmp_path):
    word = "integer(bits=4, granularity='group', group_size=128)"
    stem = qf.layers.QuantConv2D(4, 3, kernel_quantizer=word)
    model = keras.Sequential([keras.Input((6, 6, 3)), stem])
    check(model, tmp_path)


def test_what_is_no_model(tmp_path):
    with pytest.raises(ArgumentError, match="takes a Keras model, found 'm'"):
        exported("m", tmp_path)
    with pytest.raises(NotBuiltError, match=r"Begin it with keras\.Input"):
        exported(keras.Sequential([layers.Dense(2)]), tmp_path)


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case, tmp_path):
    make, why = REFUSED[case]
    model = make()
    path = tmp_path / "m.safetensors"
    path.write_text("before")
    with pytest.raises(ExportError, match=why):
        qf.export(model, path, target="packed")
    assert path.read_text() == "before"
    assert [p.name for p in tmp_path.iterdir()] == ["m.safetensors"]


def test_a_method_that_no_call_uses_may_be_overridden(tmp_path):
    check(sequential(Documented(2, 3)), tmp_path)


def test_weights_that_are_not_finite(tmp_path):
    for layer in (layers.Dense(2), convolution(), layers.BatchNormalization()):
        model = sequential(layer)
        layer.weights[-1].assign(np.full(layer.weights[-1].shape, np.nan))
        with pytest.raises(QFrameError, match="not finite"):
            exported(model, tmp_path)


@pytest.mark.parametrize("engine", ["numba", "numpy"])
def test_a_sequence_of_indices(engine, tmp_path):
    """An embedding of 4 bits, and what an index without a row is told."""
    rows = qf.layers.QuantEmbedding(
        20, 6, embeddings_quantizer="integer(bits=4, granularity='channel')"
    )
    parts = layers.Conv1D(5, 3, activation="silu"), layers.GlobalMaxPooling1D()
    model = keras.Sequential([keras.Input((9,), dtype="int32"), rows, *parts])
    path, indices = tmp_path / "m.safetensors", np.arange(18).reshape(2, 9)
    qf.export(model, path, target="packed")
    runtime = qf.packed.load(path, engine)
    expected = keras.ops.convert_to_numpy(model(indices))
    np.testing.assert_allclose(runtime.predict(indices), expected, rtol=1e-5, atol=1e-6)
    assert runtime.graph.nodes[0].operation.weight_bits == 4
    for wrong in (20, -1):
        with pytest.raises(ArgumentError, match=f"indices from 0 to 19, found .*{wrong}"):
            runtime.predict(np.full((1, 9), wrong))
    np.testing.assert_allclose(runtime.predict(indices), expected, rtol=1e-5, atol=1e-6)
    runtime.summary(profile=engine == "numba", print_fn=lambda text: None)


def test_floats_of_16_bits(tmp_path):
    model = sequential(layers.Dense(64), layers.Dense(3))
    small = exported(model, tmp_path, "packed(floats='float16')")
    x = data_of(model)[0]
    expected = exported(model, tmp_path).predict(x)
    actual = small.predict(x)
    np.testing.assert_allclose(actual, expected, atol=2e-3 * np.abs(expected).max())
    assert not np.array_equal(actual, expected)
    with pytest.raises(ArgumentError, match="one of 'float32', 'float16', found 'float8'"):
        exported(model, tmp_path, "packed(floats='float8')")
    model.layers[0].kernel.assign(np.full((2, 64), 1e6))
    with pytest.raises(ExportError, match="too large for float16"):
        exported(model, tmp_path, "packed(floats='float16')")


def test_the_size_is_that_of_the_bits(tmp_path):
    """All but the header is at most what the summary counts, thresholds are less."""
    model = sequential(
        convolution(),
        layers.BatchNormalization(),
        layers.Flatten(),
        qf.layers.QuantDense(50, use_bias=False, **SIGNS),
    )
    exported(randomized(model), tmp_path)
    content = (tmp_path / "m.safetensors").read_bytes()
    header = int.from_bytes(content[:8], "little") + 8
    assert len(content) - header <= qf.models.profile(model).memory / 8
    assert header < 1500


def test_a_model_with_loops_is_exported(tmp_path):
    x = keras.Input((6,))
    y = layers.Embedding(20, 5, name="rows")(x)
    y = layers.Bidirectional(layers.GRU(4, return_sequences=True), name="both")(y)
    model = keras.Model(x, layers.Dense(3)(layers.LSTM(4, name="loop")(y)))
    rng = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(rng.uniform(-0.7, 0.7, weight.shape))
    x, path = rng.integers(0, 20, (30, 6)).astype("float32"), tmp_path / "m.safetensors"
    qf.export(model, path, target="packed")
    size = path.stat().st_size
    expected = keras.ops.convert_to_numpy(model(x))
    np.testing.assert_allclose(qf.packed.load(path).predict(x), expected, atol=1e-5)
    qf.quantize(model, "int8")
    qf.calibrate(model, x, verbose=0)
    qf.export(model, path, target="packed")
    assert path.stat().st_size < size
    runtime = qf.packed.load(path)
    np.testing.assert_array_equal(
        runtime.predict(x), qf.packed.load(path, "numpy").predict(x)
    )
    verified = qf.verify(model, path, x, verbose=0)
    assert {"both", "loop"} <= {edge.name for edge in verified.edges}
    assert verified.outputs[0].agreement.within_one_step == 1
    lines = []
    runtime.summary(print_fn=lines.append)
    assert lines[0].count("recurrence") == 3
