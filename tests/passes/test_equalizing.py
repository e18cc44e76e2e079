"""Channels that layers scale for each other, which leaves the function as it is."""

import itertools

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras import layers, ops

import qframe as qf
from examples import settings
from fitting import WITHOUT_XLA
from float_networks import (
    IMAGE,
    TIME,
    VECTOR,
    VOLUME,
    batch,
    call,
    chain,
    draw,
    near,
    reloaded,
    state,
)
from qframe.errors import ArgumentError, DataError, NotBuiltError
from qframe.passes import equalization
from topology_models import TOPOLOGIES
from two_devices import run_on_two_devices

BACKEND = keras.backend.backend()
METHODS = ["cle", "smoothquant", "awq"]


def equalize(model, method, inputs=None, **options):
    """Equalize, with random examples for the methods that take data."""
    if method == "cle":
        return qf.equalize(model, **options)
    data = batch(model) if inputs is None else inputs
    data = data[0] if len(data) == 1 else data
    return qf.equalize(model, data, method, verbose=0, **options)


def functional(build, shape=VECTOR):
    x = keras.Input(shape)
    return draw(keras.Model(x, build(x)))


def weights(*parts):
    return [w.astype(float) for part in parts for w in part.get_weights()]


def settings_of(report):
    return {row.path: row.settings for row in report.equalized}


def reasons(report):
    return {row.path: row.reason for row in report.skipped}


# --- The formulas.


@settings(max_examples=15)
@given(seed=st.integers(0, 99), dead=st.sampled_from(["none", "made", "read"]))
def test_cle_on_two_layers_is_what_numpy_computes(seed, dead):
    first, last = layers.Dense(4, activation="relu"), layers.Dense(3)
    model = draw(chain(first, last), seed)
    a, b, c, d = weights(first, last)
    if dead == "made":
        a[:, 1] = 0
    if dead == "read":
        c[1] = 0
    first.set_weights([a, b])
    last.set_weights([c, d])
    before = call(model)
    report = qf.equalize(model)
    r1, r2 = np.abs(a).max(0), np.abs(c).max(1)
    used = (r1 > 0) & (r2 > 0)
    s = np.where(used, np.sqrt(r1 * r2) / np.where(r2 > 0, r2, 1), 1)
    near(weights(first, last), [a / s, b / s, c * s[:, None], d], 1e-6)
    near(call(model), before)
    span = f"{s.min():.3g} to {s.max():.3g}"
    assert settings_of(report) == {
        first.name: {"outputs": f"divided by {span}"},
        last.name: {"inputs": f"times {span} from {first.name}"},
    }


@settings(max_examples=6)
@given(seed=st.integers(0, 99))
def test_cle_over_a_chain_ends_with_equal_ranges(seed):
    parts = [layers.Dense(n, activation="relu") for n in (6, 5, 4, 3)]
    model = draw(chain(*parts), seed)
    qf.equalize(model, sweeps=500, tolerance=1e-7)
    for one, other in itertools.pairwise(parts):
        made, read = np.abs(one.get_weights()[0]), np.abs(other.get_weights()[0])
        np.testing.assert_allclose(made.max(0), read.max(1), 1e-4)


def test_cle_ends_after_its_sweeps():
    parts = [layers.Dense(4), layers.Dense(4), layers.Dense(4)]
    model = chain(*parts)
    kernels = [part.get_weights()[0].astype(float) for part in parts]
    s = np.sqrt(np.abs(kernels[0]).max(0) / np.abs(kernels[1]).max(1))
    half = kernels[1] * s[:, None]
    t = np.sqrt(np.abs(half).max(0) / np.abs(kernels[2]).max(1))
    qf.equalize(model, sweeps=1)
    expected = [kernels[0] / s, half / t, kernels[2] * t[:, None]]
    near([part.get_weights()[0] for part in parts], expected, 1e-6)


@settings(max_examples=10)
@given(seed=st.integers(0, 99), alpha=st.sampled_from([0, 0.5, 0.8, 1]))
def test_smoothquant_behind_a_normalization_is_what_numpy_computes(seed, alpha):
    norm, one, other = layers.LayerNormalization(), layers.Dense(3), layers.Dense(2)
    x = keras.Input(TIME)
    y = norm(x)
    model = draw(keras.Model(x, [one(y), other(y)]), seed)
    inputs = batch(model)
    gamma, beta, a, _, c, _ = weights(norm, one, other)
    normalized = inputs[0].astype(float)
    normalized -= normalized.mean(-1, keepdims=True)
    normalized /= np.sqrt((normalized**2).mean(-1, keepdims=True) + norm.epsilon)
    reads = np.abs(normalized * gamma + beta).max((0, 1))
    read = np.maximum(np.abs(a).max(1), np.abs(c).max(1))
    s = reads**alpha / read ** (1 - alpha)
    before = call(model)
    equalize(model, "smoothquant", alpha=alpha)
    expected = [gamma / s, beta / s, a * s[:, None], c * s[:, None]]
    found = weights(norm, one, other)
    near([*found[:3], found[4]], expected, 1e-5)
    near(call(model), before)


def awq_of_numpy(x, mean, kernel, bits, group_size):
    """The scale with the smallest error: rows x, and a kernel (inputs, outputs)."""

    def rounded(w):
        result = np.zeros_like(w)
        for i in range(0, len(w), group_size):
            for j in range(w.shape[1]):
                part = w[i : i + group_size, j]
                step = max(abs(part)) / (2 ** (bits - 1) - 1)
                result[i : i + group_size, j] = np.round(part / step) * step
        return result

    best = None
    for index in range(21):
        s = mean ** (index / 20)
        s = s / np.sqrt(s.max() * s.min())
        wide = np.tile(s, len(kernel) // len(s))[:, None]
        error = ((x @ kernel - (x / wide[:, 0]) @ rounded(kernel * wide)) ** 2).sum()
        if best is None or error < best[0]:
            best = error, s, index / 20
    return best[1:]


@settings(max_examples=8)
@given(
    seed=st.integers(0, 99), bits=st.sampled_from([3, 4]), size=st.sampled_from([3, 128])
)
def test_awq_of_a_dense_layer_is_what_numpy_computes(seed, bits, size):
    rng = np.random.default_rng(seed)
    norm, last = layers.LayerNormalization(center=False), layers.Dense(4)
    model = draw(chain(norm, last, shape=(8,)), seed)
    norm.gamma.assign(np.exp(rng.normal(size=8) * 1.5))
    inputs = batch(model, 64)
    (gamma, kernel, _) = weights(norm, last)
    x = inputs[0].astype(float)
    x = x - x.mean(-1, keepdims=True)
    x = x / np.sqrt((x**2).mean(-1, keepdims=True) + norm.epsilon) * gamma
    before = call(model, inputs)
    report = equalize(model, "awq", inputs, bits=bits, group_size=size)
    s, exponent = awq_of_numpy(x, np.abs(x).mean(0), kernel, bits, size)
    found = weights(norm, last)
    near(found[:2], [gamma / s, kernel * s[:, None]], 1e-5)
    near(call(model, inputs), before)
    if exponent:
        assert settings_of(report)[last.name]["exponent"] == f"{exponent:.3g}"


def test_awq_of_a_convolution_is_what_numpy_computes():
    norm = layers.BatchNormalization(center=False)
    last = layers.Conv2D(4, 3, padding="same", use_bias=False)
    model = chain(norm, last, shape=(3, 4, 2))
    norm.gamma.assign([0.1, 5.0])
    inputs = batch(model, 16)
    gamma, kernel = norm.get_weights()[0].astype(float), weights(last)[0]
    hidden = ops.convert_to_numpy(norm(inputs[0])).astype(float)
    padded = np.pad(hidden, ((0, 0), (1, 1), (1, 1), (0, 0)))
    patches = np.stack(
        [padded[:, i : i + 3, j : j + 4] for i in range(3) for j in range(3)], axis=3
    ).reshape(-1, 18)
    matrix = kernel.reshape(18, 4)
    mean = np.abs(hidden).mean((0, 1, 2))
    s, exponent = awq_of_numpy(patches, mean, matrix, 4, 128)
    assert exponent
    equalize(model, "awq", inputs)
    near([norm.get_weights()[0], weights(last)[0]], [gamma / s, kernel * s[:, None]], 1e-5)


def rounding_error(model, bits):
    """The relative error of the outputs with a step for each kernel, in NumPy."""
    before, top = call(model)[0], 2 ** (bits - 1) - 1
    for layer in model.layers:
        kernel, bias = layer.get_weights()
        step = np.abs(kernel).max() / top
        layer.set_weights([np.round(kernel / step) * step, bias])
    return np.square(call(model)[0] - before).mean() / np.square(before).mean()


@pytest.mark.parametrize("seed", range(4))
def test_cle_makes_the_error_of_rounding_uneven_channels_small(seed):
    def network():
        first, last = layers.Dense(32, "relu"), layers.Dense(8)
        model = draw(chain(first, last, shape=(16,)), seed)
        uneven = 10 ** np.random.default_rng(seed).uniform(-1, 1, 32)
        (a, b), (c, d) = first.get_weights(), last.get_weights()
        first.set_weights([a * uneven, b * uneven])
        last.set_weights([c / uneven[:, None], d])
        return model

    plain, equalized = network(), network()
    qf.equalize(equalized)
    assert rounding_error(equalized, 5) < 0.2 * rounding_error(plain, 5)


# --- Layers of products.

PRODUCTS = {
    "dense": (lambda: layers.Dense(4), VECTOR),
    "dense of time": (lambda: layers.Dense(4), TIME),
    "conv 1d": (lambda: layers.Conv1D(4, 2, padding="causal"), TIME),
    "conv 2d": (lambda: layers.Conv2D(4, 3, padding="same"), IMAGE),
    "conv 2d in groups": (lambda: layers.Conv2D(4, 3, groups=2), IMAGE),
    "conv 3d": (lambda: layers.Conv3D(4, 2), VOLUME),
    "depthwise 1d": (lambda: layers.DepthwiseConv1D(2, depth_multiplier=2), TIME),
    "depthwise 2d": (lambda: layers.DepthwiseConv2D(3, depth_multiplier=3), IMAGE),
    "separable 1d": (lambda: layers.SeparableConv1D(4, 2), TIME),
    "separable 2d": (lambda: layers.SeparableConv2D(4, 2), IMAGE),
    "transposed 1d": (lambda: layers.Conv1DTranspose(4, 2, strides=2), TIME),
    "transposed 2d": (lambda: layers.Conv2DTranspose(4, 2), IMAGE),
    "transposed 3d": (lambda: layers.Conv3DTranspose(4, 2), VOLUME),
    "einsum": (lambda: layers.EinsumDense("abc,cd->abd", (None, 4), bias_axes="d"), TIME),
    "einsum of the middle": (
        lambda: layers.EinsumDense("abc,cd->abd", (6, 4), bias_axes="bd"),
        TIME,
    ),
    "einsum elided": (lambda: layers.EinsumDense("...x,xy->...y", 4, bias_axes="y"), TIME),
    "einsum of each channel": (lambda: layers.EinsumDense("abc,c->abc", (6, 4)), TIME),
}


@pytest.mark.every_case
@pytest.mark.parametrize("case", PRODUCTS)
def test_each_layer_of_products_makes_and_reads_channels(case, tmp_path):
    make, shape = PRODUCTS[case]
    first, last = make(), make()
    model = chain(first, layers.ReLU(), last, shape=shape)
    first.kernel.assign(first.kernel * 3) if hasattr(first, "kernel") else None
    before = call(model)
    report = qf.equalize(model)
    assert len(report.equalized) == 2
    near(call(model), before)
    near(call(reloaded(model, tmp_path / "m.keras")), call(model), 0)
    # Equalized is equalized: the ranges are equal, so that nothing moves any more.
    once = model.get_weights()
    qf.equalize(model)
    near(model.get_weights(), once, 1e-6)


PASSAGES = {
    "leaky relu": (layers.LeakyReLU, IMAGE),
    "prelu": (lambda: layers.PReLU(shared_axes=[1, 2]), IMAGE),
    "prelu of each number": (layers.PReLU, IMAGE),
    "activation": (lambda: layers.Activation("leaky_relu"), IMAGE),
    "dropout": (lambda: layers.Dropout(0.5), IMAGE),
    "maximum": (lambda: layers.MaxPooling2D(2, padding="same"), IMAGE),
    "average": (lambda: layers.AveragePooling2D(2, padding="same"), IMAGE),
    "padding": (lambda: layers.ZeroPadding2D(1), IMAGE),
    "cropping": (lambda: layers.Cropping2D(1), IMAGE),
    "up": (lambda: layers.UpSampling2D(2, interpolation="bilinear"), IMAGE),
    "global maximum": (layers.GlobalMaxPooling2D, IMAGE),
    "global average": (lambda: layers.GlobalAveragePooling2D(keepdims=True), IMAGE),
    "flatten": (layers.Flatten, IMAGE),
    "flatten first": (lambda: layers.Flatten(data_format="channels_first"), IMAGE),
    "reshape": (lambda: layers.Reshape((36, 4)), IMAGE),
    "reshape to more": (lambda: layers.Reshape((3, 2, 3, 8)), IMAGE),
    "permute": (lambda: layers.Permute((2, 1, 3)), IMAGE),
}


@pytest.mark.parametrize("case", PASSAGES)
def test_a_scale_passes(case):
    make, shape = PASSAGES[case]
    first, last = layers.Dense(4), layers.Dense(3)
    model = chain(first, make(), last, shape=shape)
    first.kernel.assign(first.kernel * np.array([1.0, 10, 0.1, 1]))
    made = np.abs(first.get_weights()[0]).max(0)
    before = call(model)
    assert len(qf.equalize(model).equalized) == 2
    near(call(model), before)
    after = np.abs(first.get_weights()[0]).max(0)
    assert after.max() / after.min() < 0.3 * made.max() / made.min()


def sums(x):
    a, b = layers.Dense(4, name="a")(x), layers.Dense(4, name="b", activation="relu")(x)
    return layers.Dense(2, name="c")(layers.ReLU()(a + b - layers.Maximum()([a, b])))


def chains_of_sums(x):
    x = layers.Conv2D(4, 1, name="a")(x)
    for name in "bc":
        y = layers.Conv2D(4, 3, padding="same", activation="relu", name=f"{name}1")(x)
        x = layers.Add()([x, layers.Conv2D(4, 1, name=f"{name}2")(y)])
    return layers.Dense(2, name="d")(layers.GlobalAveragePooling2D()(x))


def gated(x):
    up = layers.Dense(4, name="up")(x)
    return layers.Dense(2, name="down")(up * layers.Dense(4, "tanh", name="gate")(x))


def shared(x):
    dense = layers.Dense(5, "relu", name="shared")
    return layers.Dense(2, name="last")(dense(dense(layers.Dense(5, name="first")(x))))


def by_keyword(x):
    y = layers.Add()(inputs=[layers.Dense(4, name=name)(x) for name in "ab"])
    return layers.Dense(2, name="c")(inputs=layers.ReLU()(inputs=y))


def several(x):
    y = layers.Dense(4, activation="relu", name="a")(x)
    return [layers.Dense(2, name="b")(y), layers.Dense(3, name="c")(y)]


GRAPHS = {
    "sums": (sums, VECTOR, "abc", ()),
    "chains of sums": (chains_of_sums, IMAGE, ["a", "b1", "b2", "c1", "c2", "d"], ()),
    "gate": (gated, VECTOR, ["up", "down"], ["gate"]),
    "shared": (shared, VECTOR, ["first", "shared", "last"], ()),
    "by keyword": (by_keyword, VECTOR, "abc", ()),
    "several": (several, VECTOR, "abc", ()),
}


@pytest.mark.parametrize("case", GRAPHS)
def test_layers_around_a_tensor_share_its_scale(case):
    build, shape, names, skipped = GRAPHS[case]
    model = functional(build, shape)
    before = call(model)
    report = qf.equalize(model)
    assert [*settings_of(report)] == [*names]
    assert [*reasons(report)] == [*skipped]
    near(call(model), before)


def test_several_makers_and_readers_take_the_largest_of_each():
    model = functional(several)
    a, _, b, _, c, _ = weights(*(model.get_layer(name) for name in "abc"))
    s = np.sqrt(np.abs(a).max(0) / np.maximum(np.abs(b).max(1), np.abs(c).max(1)))
    qf.equalize(model, sweeps=1)
    near(weights(model.get_layer("a"))[:1], [a / s], 1e-6)


# --- Attention.


def attention(kind, **options):
    if kind == "multi head":
        return layers.MultiHeadAttention(2, 3, name="mha", **options)
    return layers.GroupQueryAttention(3, 4, 2, name="mha", **options)


def self_attention(kind):
    def build(x):
        y = layers.LayerNormalization(name="norm")(x)
        return x + attention(kind)(y, y, use_causal_mask=True)

    return build


def cross_attention(kind):
    def build(x):
        a = layers.LayerNormalization(name="one")(x)
        b = layers.LayerNormalization(name="two")(x[:, ::2])
        return attention(kind)(a, value=b)

    return build


@pytest.mark.parametrize("method", METHODS[1:])
@pytest.mark.parametrize("kind", ["multi head", "grouped"])
@pytest.mark.parametrize("build", [self_attention, cross_attention])
def test_projections_of_attention_share_the_scale_of_their_input(build, kind, method):
    model = functional(build(kind), TIME)
    for norm in model.layers:
        if isinstance(norm, layers.LayerNormalization):
            norm.gamma.assign([0.1, 1, 4, 20])
    before = call(model)
    options = {"bits": 3} if method == "awq" else {}
    found = settings_of(equalize(model, method, **options))
    near(call(model), before)
    read = {name: text["inputs"] for name, text in found.items() if "inputs" in text}
    makers = {name: text.split(" from ")[1] for name, text in read.items()}
    value = "norm" if build is self_attention else "two"
    query = "norm" if build is self_attention else "one"
    assert makers == {"mha/query": query, "mha/key": value, "mha/value": value}


def test_smoothquant_of_projections_uses_the_largest_weight_of_all():
    model = functional(self_attention("multi head"), TIME)
    norm, mha = model.get_layer("norm"), model.get_layer("mha")
    gamma, beta = weights(norm)
    kernels = [w for w in weights(mha) if w.ndim == 3 and w.shape[0] == 4]
    normalized = ops.convert_to_numpy(norm(batch(model)[0])).astype(float)
    read = np.max([np.abs(kernel).max((1, 2)) for kernel in kernels[:3]], axis=0)
    s = np.sqrt(np.abs(normalized).max((0, 1)) / read)
    equalize(model, "smoothquant")
    near(weights(norm), [gamma / s, beta / s], 1e-5)


# --- The same function.


@settings(max_examples=8)
@given(data=st.data(), method=st.sampled_from(METHODS))
def test_drawn_networks_compute_the_same(data, method, tmp_path_factory):
    parts = st.sampled_from(
        ["conv", "conv", "depthwise", "relu", "norm", "pool", "tanh", "add"]
    )
    names = ["conv", *data.draw(st.lists(parts, max_size=7)), "conv", "relu", "conv"]
    x = inputs = keras.Input(IMAGE)
    tensors = [x]
    for name in names:
        if name == "conv":
            x = layers.Conv2D(4, 3, padding="same")(x)
        elif name == "depthwise":
            x = layers.DepthwiseConv2D(3, padding="same")(x)
        elif name == "norm":
            x = layers.BatchNormalization()(x)
        elif name == "pool":
            x = layers.MaxPooling2D(2, 1, padding="same")(x)
        elif name == "add":
            x = layers.Add()([x, tensors[-2] if len(tensors) > 1 else x])
        else:
            x = layers.Activation(name)(x)
        tensors.append(x)
    model = draw(
        keras.Model(inputs, layers.GlobalAveragePooling2D()(x)),
        data.draw(st.integers(0, 99)),
    )
    before = call(model)
    report = equalize(model, method)
    near(call(model), before)
    assert len(report.rows) >= names.count("conv") + names.count("depthwise")
    assert all(row.settings or row.reason for row in report.rows)
    again = reloaded(model, tmp_path_factory.mktemp("m") / "m.keras")
    near(call(again), call(model), 0)


@pytest.mark.every_case
@pytest.mark.parametrize("method", ["cle", "smoothquant"])
@pytest.mark.parametrize("topology", TOPOLOGIES, ids=lambda each: each.name)
def test_topologies(topology, method):
    model = draw(topology.model())
    before = [y.astype(float) for y in topology.predict(model)]
    kept = [ops.convert_to_numpy(v) for v in model.variables]
    data = () if method == "cle" else (topology.inputs(), method)
    try:
        qf.equalize(model, *data, verbose=0)
    except ArgumentError as error:
        refusal = str(error)
    else:
        dtypes = {layer.compute_dtype for layer in model._flatten_layers()}
        tolerance = max({"float16": 5e-3, "bfloat16": 4e-2}.get(d, 1e-5) for d in dtypes)
        near([y.astype(float) for y in topology.predict(model)], before, tolerance)
        return
    assert "can be equalized" in refusal or "has no layer of products" in refusal
    for a, b in zip(kept, model.variables, strict=True):
        np.testing.assert_array_equal(a, ops.convert_to_numpy(b))


@pytest.mark.parametrize("method", METHODS)
def test_mixed_precision(method):
    parts = [layers.Dense(8, "relu", dtype="mixed_bfloat16") for _ in range(2)]
    model = chain(*parts, layers.Dense(3, dtype="mixed_bfloat16"))
    before = call(model)
    equalize(model, method)
    near(call(model), before, 4e-2)


def test_channels_first():
    options = {"data_format": "channels_first", "activation": "relu"}
    # Six channels, as TensorFlow adds five to five columns when it optimizes a graph.
    first, second = (layers.Conv2D(6, 3, **options) for _ in range(2))
    pool = layers.MaxPooling2D(2, 1, data_format="channels_first")
    parts = [first, pool, second, layers.Flatten(), layers.Dense(2)]
    model = chain(*parts, shape=(2, 7, 7))
    model.compile(jit_compile=BACKEND == "tensorflow")  # the only way there on a CPU
    x = batch(model)
    before = model.predict(x, verbose=0)
    assert len(qf.equalize(model).equalized) == 3
    near([model.predict(x, verbose=0)], [before])


@pytest.mark.parametrize("method", METHODS)
def test_mobilenet_with_folded_normalizations(method):
    network = keras.applications.MobileNetV2
    model = draw(network((32, 32, 3), alpha=0.35, weights=None, classes=10))
    for layer in model.layers:  # in ReLU6 no scale passes
        if isinstance(layer, layers.ReLU):
            layer.max_value = None
    qf.fold_batchnorm(model)
    before = call(model)
    report = equalize(model, method, rows=4) if method == "awq" else equalize(model, method)
    near(call(model), before, 2e-5)
    if method != "awq":
        assert len(report.equalized) == len(report.rows) == 53


# --- Around the model.


def test_a_compiled_model_is_traced_again_and_its_optimizer_starts_again():
    model = chain(layers.Dense(3, "relu"), layers.Dense(2))
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9), "mse", **WITHOUT_XLA)
    (x,) = batch(model, 8)
    y = np.zeros((8, 2))
    model.fit(x, y, verbose=0)
    predicted, loss = model.predict(x, verbose=0), model.evaluate(x, y, verbose=0)
    report = qf.equalize(model)
    assert f"optimizer of {model.name!r} starts again" in report.notes[0]
    near([model.predict(x, verbose=0)], [predicted])
    np.testing.assert_allclose(model.evaluate(x, y, verbose=0), loss, 1e-5)
    assert int(model.optimizer.iterations) == 1
    assert model.fit(x, y, verbose=0, epochs=2).history["loss"][1] < loss


@pytest.mark.long
@pytest.mark.skipif(BACKEND != "tensorflow", reason="tf.distribute")
def test_on_two_devices():
    code = """
x, y = np.arange(32, dtype="float32").reshape(8, 4) / 32, np.zeros((8, 3))
with two_devices.scope():
    norm = keras.layers.LayerNormalization()
    parts = [keras.layers.Dense(4, "relu"), keras.layers.Dense(3)]
    model = keras.Sequential([keras.Input((4,)), norm, *parts])
    model.compile("adam", "mse", jit_compile=False)
norm.gamma.assign([0.1, 1.0, 2.0, 5.0])
model.fit(x, y, verbose=0)
before = model.predict(x, verbose=0)
qf.equalize(model)
qf.equalize(model, x, "smoothquant", verbose=0)
np.testing.assert_allclose(model.predict(x, verbose=0), before, 1e-5, 1e-5)
kernel = [np.array(value) for value in parts[0].kernel.value.values]
np.testing.assert_array_equal(*kernel)
model.fit(x, y, verbose=0)
assert keras.ops.convert_to_numpy(model.optimizer.iterations) == 2
"""
    run_on_two_devices(code)


def test_a_tower_in_a_model_is_equalized_in_both():
    tower = chain(layers.Dense(3, "relu"), layers.Dense(4))
    a, b = keras.Input(VECTOR), keras.Input(VECTOR)
    model = keras.Model([a, b], tower(a) - tower(b))
    before, alone = call(model), call(tower)
    report = qf.equalize(model)
    assert [*settings_of(report)] == [f"{tower.name}/{p.name}" for p in tower.layers]
    near(call(model), before)
    near(call(tower), alone)


def test_quantization_follows_and_a_second_call_says_what_to_type():
    model = chain(layers.Dense(3, "relu", name="a"), layers.Dense(2, name="b"))
    qf.equalize(model)
    before = call(model)
    qf.quantize(model, "int8")
    qf.calibrate(model, batch(model)[0], verbose=0)
    near(call(model), before, 0.05)
    with pytest.raises(ArgumentError, match=r"'a' is quantized. Equalize before: call qfr"):
        qf.equalize(model)


def test_an_error_in_the_middle_changes_nothing(monkeypatch):
    model = chain(layers.Dense(3, "relu"), layers.Dense(3, "relu"), layers.Dense(2))
    model.compile("adam", "mse", **WITHOUT_XLA)
    model.optimizer.build(model.trainable_variables)
    before, optimizer = state(model), model.optimizer
    write, calls = equalization.write, []

    def broken(*args):
        calls.append(args)
        if len(calls) == 3:
            raise MemoryError
        write(*args)

    monkeypatch.setattr(equalization, "write", broken)
    with pytest.raises(MemoryError):
        qf.equalize(model)
    assert state(model) == before
    assert model.optimizer is optimizer


def test_a_report_names_constraints_and_what_was_left():
    first = layers.Dense(3, "relu", kernel_constraint="non_neg", name="first")
    last = [layers.Softmax(name="softmax"), layers.Dense(2, name="third")]
    report = qf.equalize(chain(first, layers.Dense(4, name="second"), *last))
    assert "2 of 3 layers equalized" in str(report)
    assert reasons(report) == {"third": "no scale passes 'softmax' (Softmax)"}
    assert report.rows[0].reason == (
        "inputs: it reads an input of its model; the scaled numbers are subject to "
        "kernel_constraint of 'first' in training"
    )


# --- What is left as it is.


class Doubled(layers.Dense):
    def call(self, x):
        return 2 * super().call(x)


def sequence(*makers, shape=VECTOR):
    return lambda: chain(*(make() for make in makers), shape=shape)


def dense(name="dense", **options):
    return lambda: layers.Dense(5, name=name, **options)


def graph(build, shape=VECTOR):
    return lambda: functional(build, shape)


def read_by_others(x):
    y = dense("a")()(x)
    return dense("b")()(y) + ops.tanh(y)


def returned(x):
    y = dense("a")()(x)
    return [y, dense("b")()(y)]


def squared_by_keyword(x):
    y = dense("a")()(x)
    return dense("b")()(layers.Multiply()(inputs=[y, y]))


def read_in_graph(x):
    b = dense("b")()
    return ops.matmul(b(dense("a")()(x)), b.kernel)


def read_by_lambda(x):
    b = dense("b")()
    by = layers.Lambda(lambda y: ops.matmul(y, b.kernel), output_shape=(5,), name="by")
    return by(b(dense("a")()(x)))


def called_by_lambda(x):
    a = dense("a")()
    by = layers.Lambda(lambda y: a(y), output_shape=(5,), name="by")
    return by(dense("b")()(a(x)))


def padded():
    conv = qf.layers.QuantConv2D(3, 3, padding="same", pad_values=1.0, name="b")
    return chain(layers.Conv2D(3, 3, name="a"), conv, shape=IMAGE)


def with_lora():
    model = chain(dense("a")(), dense("b")())
    model.layers[1].enable_lora(2)
    return model


def quantized_by_keras():
    model = chain(dense("a")(), dense("b")())
    model.layers[0].quantize("int8")
    return model


def quantized_relu():
    model = chain(dense("a")(), layers.ReLU(name="relu"), dense("b")())
    qf.quantize(model, "int8")
    for name in "ab":
        layer = model.get_layer(name)
        for slot in list(layer.quantizers):
            layer.quantizers[slot] = None
    return model


def assigned(value):
    def make():
        model = chain(dense("a", use_bias=False)(), dense("b")())
        kernel = np.ones((5, 5))
        kernel[0, 0] = value
        model.layers[0].kernel.assign(kernel)
        return model

    return make


def in_columns(x):
    y = layers.Dense(5, name="a")(x)
    y = layers.MaxPooling2D(2, data_format="channels_first")(y)
    return layers.Dense(2, name="b")(y)


def relu6():
    return layers.Activation("relu6", name="six")


CUT = "replace it with"
REFUSALS = {
    "one layer": (sequence(dense()), "it reads an input of its model"),
    "relu6": (sequence(dense("a"), lambda: layers.ReLU(6.0), dense("b")), CUT),
    "relu6 inside": (sequence(dense("a", activation="relu6"), dense("b")), CUT),
    "relu6 activation": (sequence(dense("a"), relu6, dense("b")), CUT),
    "threshold": (
        sequence(dense("a"), lambda: layers.ReLU(threshold=1.0), dense("b")),
        "and threshold=1.0: replace it",
    ),
    "elu": (sequence(dense("a"), layers.ELU, dense("b")), "(ELU)"),
    "tanh": (sequence(dense("a", activation="tanh"), dense("b")), "the activation tanh of"),
    "operator": (graph(lambda x: dense("b")()(ops.sin(dense("a")()(x)))), "(Sin)"),
    "constant": (
        graph(lambda x: dense("b")()(dense("a")()(x) + 1)),
        "takes a constant too",
    ),
    "square": (
        graph(lambda x: dense("b")()(ops.multiply(*[dense("a")()(x)] * 2))),
        "multiplies its outputs by each other",
    ),
    "square by keyword": (
        graph(squared_by_keyword),
        "multiplies its outputs by each other",
    ),
    "read in a graph": (graph(read_in_graph), "reads a weight of 'b' too"),
    "called by a lambda": (
        graph(called_by_lambda, (5,)),
        "'a' may be called by the code of 'by'",
    ),
    "read by a lambda": (graph(read_by_lambda), "'b' may be called by the code of 'by'"),
    "input": (
        graph(lambda x: dense("b")()(dense("a")()(x) + x)),
        "the channels are those of an input of its model",
    ),
    "others": (graph(read_by_others), "no scale passes 'tanh"),
    "output": (graph(returned), "the channels are an output of 'functional"),
    "batch norm": (
        sequence(dense("a"), layers.BatchNormalization, dense("b")),
        "which qframe.fold_batchnorm may fold first",
    ),
    "layer norm": (
        sequence(dense("a"), layers.LayerNormalization, dense("b")),
        "which method='smoothquant' or 'awq' divides",
    ),
    "override": (sequence(dense(), lambda: Doubled(5)), "Doubled overrides call"),
    "override before": (sequence(lambda: Doubled(5), dense()), "Doubled overrides call"),
    "wrapper": (
        sequence(lambda: layers.TimeDistributed(dense()()), dense("b"), shape=TIME),
        "may be called by the code of 'time_distributed",
    ),
    "other axis": (graph(in_columns, IMAGE), "mixes the channels"),
    "reshape": (
        graph(lambda x: dense("b")()(layers.Reshape((5, 6))(dense("a")()(x))), TIME),
        "the channels that 'b' reads have several axes",
    ),
    "einsum": (
        sequence(
            dense("a"),
            lambda: layers.EinsumDense("abc,bd->adc", (2, 5), name="b"),
            shape=TIME,
        ),
        "'b' does not multiply axis 2 with its kernel",
    ),
    "einsum bias": (
        sequence(
            lambda: layers.EinsumDense("ab,bcd->acd", (2, 3), bias_axes="c", name="a"),
            dense("b"),
        ),
        "has bias_axes='c', without the axis of the channels",
    ),
    "padding": (padded, "pads with pad_values=1.0"),
    "lora": (with_lora, "LoRA is enabled on 'b'"),
    "keras": (quantized_by_keras, "Keras has quantized 'a': int8"),
    "quantized": (quantized_relu, "'relu' is quantized. Equalize before"),
    "NaN": (assigned(np.nan), "the numbers of 'a' are not finite"),
}


NORMS = {
    "several axes": (layers.LayerNormalization, {"axis": (1, 2)}, "normalizes more or oth"),
    "first axis": (
        layers.LayerNormalization,
        {"axis": 1},
        "normalizes more or others than",
    ),
    "no scale": (layers.LayerNormalization, {"scale": False}, "has scale=False"),
    "batch": (layers.BatchNormalization, {"scale": False}, "has scale=False"),
    "other axis": (layers.BatchNormalization, {"axis": 1}, "does not multiply axis 1"),
}


@pytest.mark.parametrize("case", NORMS)
def test_a_normalization_without_a_scale_of_channels_is_a_reason(case):
    make, options, reason = NORMS[case]
    model = chain(make(name="norm", **options), dense("b")(), shape=TIME)
    with pytest.raises(ArgumentError, match=reason):
        equalize(model, "smoothquant")


def test_a_normalization_whose_scale_is_read_by_others_is_left():
    def build(x):
        norm = layers.LayerNormalization(name="norm")
        return ops.multiply(layers.Dense(5, name="b")(norm(x)), norm.gamma)

    with pytest.raises(ArgumentError, match="reads a weight of 'norm' too"):
        equalize(functional(build), "smoothquant")


@pytest.mark.parametrize("case", REFUSALS)
def test_a_refusal_has_its_reason_and_changes_nothing(case):
    make, reason = REFUSALS[case]
    model = make()
    before = [ops.convert_to_numpy(v) for v in model.variables]
    with pytest.raises(ArgumentError, match="can be equalized by 'cle'") as error:
        qf.equalize(model)
    assert reason in str(error.value)
    for a, b in zip(before, model.variables, strict=True):
        np.testing.assert_array_equal(a, ops.convert_to_numpy(b))


def test_graphs_within_code_are_equalized():
    class Coded(keras.Model):
        def __init__(self):
            super().__init__()
            parts = [layers.Dense(3, "relu", name="a"), layers.Dense(3, name="b")]
            self.graph = keras.Sequential([keras.Input(VECTOR), *parts])
            self.dense = layers.Dense(2, name="dense")

        def call(self, x):
            return self.dense(self.graph(x))

    model = Coded()
    x = np.random.default_rng(0).normal(size=(4, 5)).astype("float32")
    model(x)
    before = call(draw(model), [x])
    report = qf.equalize(model)
    near(call(model, [x]), before)
    reason = f"no scale passes {model.graph.name!r} (Sequential)"
    assert reasons(report) == {"dense": reason}
    assert len(report.equalized) == 2


def test_awq_leaves_what_it_cannot_measure_or_improve():
    depthwise = layers.DepthwiseConv2D(3, name="depthwise")
    grouped = layers.Conv2D(4, 1, groups=2, name="grouped")
    one = layers.Conv2D(4, 1, name="one")
    equal = layers.Conv2D(4, 1, use_bias=False, name="equal")
    parts = [
        layers.Conv2D(4, 1, name="first"),
        depthwise,
        grouped,
        layers.ReLU(),
        one,
        equal,
    ]
    model = chain(*parts, shape=IMAGE)
    equal.kernel.assign(np.ones((1, 1, 4, 4)))  # is on the grid
    report = equalize(model, "awq", bits=3)
    found = {row.path: row.reason for row in report.rows}
    assert "reads one channel, whose scale changes no error" in found["depthwise"]
    assert "the error of 'grouped' is not that of one matrix" in found["grouped"]
    assert found["equal"] == "no scale makes the error of its rounding smaller"


class Cell(layers.Layer):
    """A cell whose code calls a model, at each step."""

    state_size = 5

    def __init__(self):
        super().__init__()
        parts = [layers.Dense(5, "relu", name="a"), layers.Dense(5, name="b")]
        self.graph = keras.Sequential([keras.Input((4,)), *parts])

    def call(self, x, states):
        y = self.graph(x) + states[0]
        return y, [y]


def test_layers_in_a_loop_over_time_are_not_observed():
    model = chain(layers.RNN(Cell()), shape=TIME)
    with pytest.raises(ArgumentError, match="'b' is not reached, or only in a loop over"):
        equalize(model, "smoothquant")
    before = call(model)
    assert len(qf.equalize(model).equalized) == 2
    near(call(model), before)


def small(kernel, bias=0.0, dtype="float32"):
    """Three layers; the first scale is the root of the numbers in the first kernel."""
    one, other, last = (layers.Dense(2, name=name, dtype=dtype) for name in "abc")
    model = chain(one, other, last)
    one.kernel.assign(np.full((5, 2), kernel))
    one.bias.assign([bias, bias])
    other.kernel.assign(np.ones((2, 2)))
    last.kernel.assign([[1.0, 3.0], [5.0, 2.0]])
    return model


@pytest.mark.parametrize(
    ("dtype", "kernel", "bias"), [("float32", 1e-20, 1e30), ("float16", 1e-3, 6e4)]
)
def test_a_scale_that_does_not_fit_leaves_its_group_alone(dtype, kernel, bias):
    model = small(kernel, bias, dtype)
    kept = model.layers[0].get_weights()
    report = qf.equalize(model)
    assert f"the scaled bias of 'a' do not fit {dtype}" in report.rows[1].reason
    for a, b in zip(kept, model.layers[0].get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert [*settings_of(report)] == ["b", "c"]


def test_numbers_that_float32_can_hold_are_scaled():
    model = small(1e-37)
    qf.equalize(model, sweeps=1)
    np.testing.assert_allclose(model.layers[0].get_weights()[0], np.sqrt(1e-37), 1e-5)


# --- Arguments.


def two():
    return chain(layers.Dense(3), layers.Dense(2))


X = np.ones((4, 5), "float32")
ERRORS = [
    ((), {"method": "clee"}, "equalize has no method 'clee'. Did you mean 'cle'"),
    ((), {"alpha": 0.5}, "'cle' has no option 'alpha'; it has sweeps, tolerance"),
    ((), {"sweeps": 0}, "sweeps of qframe.equalize must be an integer"),
    ((), {"tolerance": 0}, "tolerance of qframe.equalize must be a positive number"),
    ((X, "smoothquant"), {"alpha": 2}, "alpha of qframe.equalize must be a number from"),
    ((X, "awq"), {"bits": 1}, "bits of qframe.equalize must be an integer"),
    ((X, "awq"), {"group_size": 0}, "group_size of qframe.equalize must be an integer"),
    ((X, "awq"), {"grid": 0}, "grid of qframe.equalize must be an integer"),
    ((X, "awq"), {"rows": 0}, "rows of qframe.equalize must be an integer"),
    ((X,), {}, "takes no data: qframe.equalize"),
    ((None, "awq"), {}, "needs data: qframe.equalize.* or --data FILE.npz"),
    ((X[:0], "awq"), {}, "the equalization data is empty"),
    ((X[:, :3], "awq"), {}, "the equalization data has the shape"),
    ((X * np.nan, "awq"), {"verbose": 0}, "the equalization data contains NaN or inf"),
]


@pytest.mark.parametrize("method", METHODS[1:])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_data_that_is_not_finite_is_an_error_even_behind_a_relu(method, value):
    # A ReLU may return 0 for NaN, so that no layer behind it sees any.
    model = chain(layers.Dense(3, activation="relu"), layers.Dense(2))
    with pytest.raises(DataError, match="the equalization data contains NaN or infinity"):
        qf.equalize(
            model, np.where(np.arange(4)[:, None] == 2, value, X), method, verbose=0
        )


def test_numbers_that_overflow_in_the_model_are_an_error():
    model = two()
    model.layers[0].kernel.assign(np.full((5, 3), 1e30))
    with pytest.raises(DataError, match="NaN or infinity reached 'dense"):
        qf.equalize(model, X * np.float32(1e30), "awq", verbose=0)


@pytest.mark.parametrize(("arguments", "options", "message"), ERRORS)
def test_errors_change_nothing(arguments, options, message):
    model = two()
    before = model.get_weights()
    with pytest.raises((ArgumentError, DataError), match=message):
        qf.equalize(model, *arguments, **options)
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: layers.Dense(2), ArgumentError, "equalization takes a keras.Model"),
        (lambda: keras.Sequential([layers.Dense(2)]), NotBuiltError, "no weights yet"),
        (lambda: chain(layers.ReLU()), ArgumentError, "no layer of products to equalize"),
    ],
)
def test_other_models_are_errors(make, error, message):
    with pytest.raises(error, match=message):
        qf.equalize(make())
