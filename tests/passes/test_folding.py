"""Batch normalizations folded into the layers before them."""

import contextlib

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
from qframe import keras_internals
from qframe.errors import ArgumentError, NotBuiltError
from topology_models import named
from two_devices import run_on_two_devices

BACKEND = keras.backend.backend()
KERAS = tuple(int(part) for part in keras.__version__.split(".")[:2])
RNG = np.random.default_rng(0)


def kinds(model):
    return [type(layer).__name__ for layer in model.layers]


# --- The formula.


@settings(max_examples=12)
@given(
    seed=st.integers(0, 99),
    exponent=st.integers(-40, 40),
    options=st.fixed_dictionaries(dict.fromkeys(["center", "scale"], st.booleans())),
    biased=st.booleans(),
    gamma=st.sampled_from([None, 0.0, -1.0]),
)
def test_two_layers_are_what_numpy_computes(seed, exponent, options, biased, gamma):
    norm = layers.BatchNormalization(epsilon=1e-13, **options)
    first, last = layers.Dense(3, use_bias=biased), layers.Dense(2)
    model = draw(chain(first, norm, last), seed)
    variance = np.float64(2.0**exponent) * np.array([1, 1.5, 1.9])
    norm.moving_variance.assign(variance)
    if gamma is not None and norm.scale:
        norm.gamma.assign([gamma] * 3)
    kernel, *bias = (w.astype(float) for w in first.get_weights())
    mean, scale, shift = (
        np.zeros(3) + (0.0 if v is None else ops.convert_to_numpy(v).astype(float))
        for v in (norm.moving_mean, norm.gamma, norm.beta)
    )
    scale = scale if norm.scale else np.ones(3)
    (x,) = batch(model)
    hidden = (x.astype(float) @ kernel + (bias[0] if bias else 0) - mean) / np.sqrt(
        ops.convert_to_numpy(norm.moving_variance).astype(float) + 1e-13
    ) * scale + shift
    outputs, lasting = last.get_weights()
    report = qf.fold_batchnorm(model)
    assert [row.path for row in report.folded] == [norm.name]
    assert kinds(model) == ["Dense", "Identity", "Dense"]
    assert report.folded[0].settings == {"folded_into": first.name} | (
        {} if biased else {"bias": "added"}
    )
    kernel, bias = (w.astype(float) for w in first.get_weights())
    near([x @ kernel + bias], [hidden], 1e-6)
    near(call(model), [hidden @ outputs.astype(float) + lasting], 3e-6)


# --- Layers of products.

PRODUCTS = {
    "dense": (lambda **k: layers.Dense(3, **k), VECTOR),
    "dense of time": (lambda **k: layers.Dense(3, **k), TIME),
    "conv 1d": (lambda **k: layers.Conv1D(3, 2, padding="causal", **k), TIME),
    "conv 2d in groups": (lambda **k: layers.Conv2D(6, 3, groups=2, **k), IMAGE),
    "conv 3d": (lambda **k: layers.Conv3D(3, 2, **k), VOLUME),
    "depthwise 1d": (lambda **k: layers.DepthwiseConv1D(2, depth_multiplier=2, **k), TIME),
    "depthwise 2d": (lambda **k: layers.DepthwiseConv2D(3, depth_multiplier=3, **k), IMAGE),
    "separable 1d": (lambda **k: layers.SeparableConv1D(3, 2, **k), TIME),
    "separable 2d": (lambda **k: layers.SeparableConv2D(3, 2, **k), IMAGE),
    "transposed 1d": (lambda **k: layers.Conv1DTranspose(3, 2, strides=2, **k), TIME),
    "transposed 2d": (lambda **k: layers.Conv2DTranspose(3, 2, **k), IMAGE),
    "transposed 3d": (lambda **k: layers.Conv3DTranspose(3, 2, **k), VOLUME),
}
EINSUMS = {
    "last": ("ab,bcd->acd", (2, 3), -1, "d", VECTOR),
    "middle": ("ab,bcd->acd", (2, 3), 1, "cd", VECTOR),
    "elided": ("...x,xy->...y", (3,), -1, "y", TIME),
    "elided behind": ("abc...,bcd->ad...", (3,), 1, "d", IMAGE),
    "each channel": ("abc,c->abc", (6, 4), 2, "c", TIME),
}


def einsum(case, **options):
    equation, shape, axis, bias, inputs = EINSUMS[case]
    bias = bias if options["use_bias"] else None
    make = layers.EinsumDense(equation, shape, bias_axes=bias)
    return make, layers.BatchNormalization(axis=axis), inputs


@pytest.mark.every_case
@pytest.mark.parametrize("biased", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("case", [*PRODUCTS, *EINSUMS])
def test_each_layer_of_products_computes_the_same_and_is_one_of_keras(
    case, biased, tmp_path
):
    if case in PRODUCTS:
        make, shape = PRODUCTS[case]
        product, norm = make(use_bias=biased), layers.BatchNormalization()
    else:
        product, norm, shape = einsum(case, use_bias=biased)
    model = chain(product, norm, shape=shape)
    before = call(model)
    assert len(qf.fold_batchnorm(model).folded) == 1
    near(call(model), before)
    assert kinds(model)[1] == "Identity"
    # Keras itself makes the same variables of the config.
    clone = keras.models.clone_model(model)
    for a, b in zip(model.variables, clone.variables, strict=True):
        assert (a.name, a.shape, a.path) == (b.name, b.shape, b.path)
        assert (a.dtype, a.trainable) == (b.dtype, b.trainable)
    clone.set_weights(model.get_weights())
    again = reloaded(model, tmp_path / "m.keras")
    model.save_weights(tmp_path / "m.weights.h5")
    other = keras.Sequential.from_config(model.get_config())
    other.load_weights(tmp_path / "m.weights.h5")
    for each in (clone, again, other):
        near(call(each), call(model), 0)
        assert each.count_params() == model.count_params()


# --- Topologies.


@pytest.mark.parametrize(
    ("name", "count", "tolerance"),
    [
        ("residual", 1, 1e-5),
        ("float16 by global policy", 1, 5e-3),
        ("bfloat16 by global policy", 1, 4e-2),
    ],
)
def test_topologies(name, count, tolerance):
    topology = named(name)
    model = draw(topology.model())
    before = [y.astype(float) for y in topology.predict(model)]
    report = qf.fold_batchnorm(model)
    assert len(report.folded) == count
    near([y.astype(float) for y in topology.predict(model)], before, tolerance)


def test_channels_first():
    # Five channels, as TensorFlow adds three to three columns when it optimizes a graph.
    options = {"data_format": "channels_first", "use_bias": False}
    parts = [layers.Conv2D(5, 3, **options), layers.BatchNormalization(axis=1)]
    model = chain(*parts, shape=(2, 6, 6))
    model.compile(jit_compile=BACKEND == "tensorflow")  # the only way there on a CPU
    x = batch(model)
    before = model.predict(x, verbose=0)
    qf.fold_batchnorm(model)
    near([model.predict(x, verbose=0)], [before])


@settings(max_examples=8)
@given(data=st.data())
def test_drawn_networks_compute_the_same_after_a_reload_too(data, tmp_path_factory):
    parts = st.sampled_from(["conv", "depthwise", "norm", "norm", "relu", "add", "branch"])
    before, after = (data.draw(st.lists(parts, max_size=4)) for _ in range(2))
    names = [*before, "conv", "norm", *after]
    biased = data.draw(st.booleans())
    x = inputs = keras.Input(IMAGE)
    tensors, foldable = [x], 0
    for name in names:
        if name == "conv":
            x = layers.Conv2D(4, 3, padding="same", use_bias=biased)(x)
        elif name == "depthwise":
            x = layers.DepthwiseConv2D(3, padding="same", use_bias=biased)(x)
        elif name == "norm":
            x = layers.BatchNormalization()(x)
        elif name == "relu":
            x = layers.ReLU()(x)
        elif name == "add":
            x = x + tensors[-2] if len(tensors) > 1 else ops.abs(x)
        else:
            x = layers.Add()([x, layers.Conv2D(4, 1)(x)])
        tensors.append(x)
    makers = {id(t): n for t, n in zip(tensors, ["input", *names], strict=True)}
    model = draw(keras.Model(inputs, layers.GlobalAveragePooling2D()(x)))
    for place, name in enumerate(names):
        # By hand: what a normalization reads, and who else reads that.
        read = tensors[place]
        after = [n for n in names[place + 1 : place + 2] if n == "add"]
        product = makers[id(read)] in ("conv", "depthwise")
        foldable += name == "norm" and product and not after
    before = call(model)
    if not foldable:
        kept = state(model)
        with pytest.raises(ArgumentError, match=r"can be folded|has no keras\.layers"):
            qf.fold_batchnorm(model)
        assert state(model) == kept
        return
    assert len(qf.fold_batchnorm(model).folded) == foldable
    near(call(model), before)
    again = reloaded(model, tmp_path_factory.mktemp("m") / "m.keras")
    near(call(again), call(model), 0)
    kept = state(model)
    with pytest.raises(ArgumentError):
        qf.fold_batchnorm(model)
    assert state(model) == kept


def test_all_of_mobilenet(tmp_path):
    network = keras.applications.MobileNetV2
    model = draw(network((32, 32, 3), alpha=0.35, weights=None, classes=10))
    before = call(model)
    report = qf.fold_batchnorm(model)
    assert len(report.folded) == len(report.rows) == 52
    near(call(model), before)
    assert kinds(model).count("Identity") == 52


def test_a_tower_in_a_model_is_folded_in_both_and_for_each_call():
    tower = chain(layers.Dense(3), layers.BatchNormalization(), layers.ReLU())
    a, b = keras.Input(VECTOR), keras.Input(VECTOR)
    model = keras.Model([a, b], tower(a) - tower(b, training=False))
    before, alone = call(model), call(tower)
    report = qf.fold_batchnorm(model)
    assert [row.path for row in report.folded] == [f"{tower.name}/{tower.layers[1].name}"]
    near(call(model), before)
    near(call(tower), alone)


def test_a_mask_passes(tmp_path):
    parts = [layers.Masking(), layers.Dense(3), layers.BatchNormalization(), layers.LSTM(2)]
    model = chain(*parts, shape=TIME)
    (x,) = batch(model)
    x[0, 2:] = 0
    before = call(model, [x])
    qf.fold_batchnorm(model)
    near(call(model, [x]), before)
    near(call(reloaded(model, tmp_path / "m.keras"), [x]), before)


def test_what_a_growing_sequential_leaves_behind_does_not_count():
    model = keras.Sequential([keras.Input(VECTOR)])
    for part in (layers.Dense(3), layers.BatchNormalization(), layers.ReLU()):
        model.add(part)
    assert len(qf.fold_batchnorm(model).folded) == 1


class Coded(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        parts = [layers.Dense(3), layers.BatchNormalization()]
        self.graph = keras.Sequential([keras.Input(VECTOR), *parts])
        self.dense, self.norm = layers.Dense(2), layers.BatchNormalization(name="norm")

    def call(self, x):
        return self.norm(self.dense(self.graph(x)))


def test_graphs_within_code_are_folded_and_what_code_calls_is_not():
    model = Coded()
    x = RNG.normal(size=(4, 5)).astype("float32")
    model(x)
    before = call(draw(model), [x])
    report = qf.fold_batchnorm(model)
    near(call(model, [x]), before)
    (skipped,) = report.skipped
    assert skipped.path == "norm"
    assert f"may be called by the code of {model.name!r}" in skipped.reason
    (note,) = report.notes
    assert f"Keras loads {model.name!r} by the code of Coded" in note


@pytest.mark.parametrize("frozen", [0, 1])
def test_frozen_layers(frozen):
    model = chain(layers.Dense(3, use_bias=False), layers.BatchNormalization())
    model.layers[frozen].trainable = False
    before = call(model)
    qf.fold_batchnorm(model)
    near(call(model), before)
    assert len(model.trainable_variables) == (2 if frozen else 0)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="JAX and PyTorch compute in 32 bits")
def test_float64_and_synchronized():
    norm = layers.BatchNormalization(synchronized=True, dtype="float64")
    dense = layers.Dense(3, dtype="float64")
    model = chain(dense, norm)
    before = ops.convert_to_numpy(model(batch(model)[0]))
    qf.fold_batchnorm(model)
    after = ops.convert_to_numpy(model(batch(model)[0]))
    np.testing.assert_allclose(after, before, 1e-12)


# --- Around the model.


def test_compiled_models_are_traced_again_and_train_on(tmp_path):
    dense, norm = layers.Dense(3, use_bias=False), layers.BatchNormalization()
    model = chain(dense, norm, layers.Dense(2))
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9), "mse", **WITHOUT_XLA)
    (x,) = batch(model, 8)
    y = np.zeros((8, 2))
    model.fit(x, y, verbose=0)
    predicted, loss = model.predict(x, verbose=0), model.evaluate(x, y, verbose=0)
    report = qf.fold_batchnorm(model)
    assert f"optimizer of {model.name!r} starts again" in report.notes[0]
    near([model.predict(x, verbose=0)], [predicted])
    np.testing.assert_allclose(model.evaluate(x, y, verbose=0), loss, 1e-5)
    twin = reloaded(model, tmp_path / "m.keras")
    assert int(model.optimizer.iterations) == int(twin.optimizer.iterations) == 1
    # Keras's own model of the same layers learns the same, and changes as many numbers.
    losses = [m.fit(x, y, epochs=2, verbose=0).history["loss"] for m in (model, twin)]
    np.testing.assert_allclose(*losses, rtol=1e-6)
    assert losses[0][1] < losses[0][0] < 1.01 * loss
    for a, b in zip(model.get_weights(), twin.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, 1e-5, 1e-7)
    assert np.abs(ops.convert_to_numpy(dense.bias)).max() > 0
    if BACKEND == "torch":
        assert len([*model.parameters()]) == len([*twin.parameters()]) == 4


@pytest.mark.long
@pytest.mark.skipif(BACKEND != "tensorflow", reason="tf.distribute")
def test_on_two_devices():
    code = """
x, y = np.arange(32, dtype="float32").reshape(8, 4) / 32, np.zeros((8, 3))
with two_devices.scope():
    norm = keras.layers.BatchNormalization(synchronized=True)
    parts = [keras.layers.Dense(3, use_bias=False), norm]
    model = keras.Sequential([keras.Input((4,)), *parts])
    model.compile("adam", "mse", jit_compile=False)
norm.moving_mean.assign([1.0, 2.0, 3.0])
model.fit(x, y, verbose=0)
before = model.predict(x, verbose=0)
qf.fold_batchnorm(model)
np.testing.assert_allclose(model.predict(x, verbose=0), before, 1e-5, 1e-5)
model.fit(x, y, verbose=0)
bias = [np.array(value) for value in parts[0].bias.value.values]
np.testing.assert_array_equal(*bias)
assert keras.ops.convert_to_numpy(model.optimizer.iterations) == 2
"""
    run_on_two_devices(code)


def test_quantization_follows():
    model = chain(layers.Dense(3, use_bias=False), layers.BatchNormalization())
    qf.fold_batchnorm(model)
    before = call(model)
    assert [row.kind for row in qf.quantize(model, "int8").quantized] == ["Dense"]
    qf.calibrate(model, batch(model)[0], verbose=0)
    near(call(model), before, 0.05)


def test_empty_slots_are_no_obstacle_and_can_be_filled_afterwards(tmp_path):
    dense = qf.layers.QuantDense(3, use_bias=False)
    model = chain(dense, layers.BatchNormalization())
    before = call(model)
    qf.fold_batchnorm(model)
    near(call(model), before)
    dense.quantizers["kernel"] = "ste_sign"
    dense.quantizers["bias"] = "ste_sign"
    signs = [np.where(w < 0, -1, 1) for w in dense.get_weights()]
    near(call(model), [batch(model)[0] @ signs[0] + signs[1]])
    model.save(tmp_path / "m.keras")
    near(call(qf.load_model(tmp_path / "m.keras")), call(model), 0)


def test_an_error_in_the_middle_changes_nothing(monkeypatch):
    parts = [layers.Dense(3, use_bias=False), layers.BatchNormalization()]
    other = layers.EinsumDense("ab,bc->ac", 2)
    model = chain(*parts, other, layers.BatchNormalization())
    model.compile("adam", "mse", **WITHOUT_XLA)
    model.optimizer.build(model.trainable_variables)
    before, outputs, optimizer = state(model), call(model), model.optimizer
    become, calls = keras_internals.become_identity, []

    def broken(layer):
        calls.append(layer)
        if len(calls) == 2:
            raise MemoryError
        return become(layer)

    monkeypatch.setattr(keras_internals, "become_identity", broken)
    with pytest.raises(MemoryError):
        qf.fold_batchnorm(model)
    assert state(model) == before
    assert model.optimizer is optimizer
    near(call(model), outputs, 0)
    assert (parts[0].use_bias, other.bias_axes) == (False, None)
    monkeypatch.undo()
    assert len(qf.fold_batchnorm(model).folded) == 2
    near(call(model), outputs)


# --- What is left as it is.


class Doubled(layers.Dense):
    def call(self, x):
        return 2 * super().call(x)


class Own(layers.Dense):
    """Computes as Dense does."""


class DoubledNorm(layers.BatchNormalization):
    def call(self, x, training=None, mask=None):
        return 2 * super().call(x, training=training, mask=mask)


def functional(build, shape=VECTOR):
    def make():
        x = keras.Input(shape)
        return draw(keras.Model(x, build(x)))

    return make


def sequence(*makers, shape=VECTOR):
    return lambda: chain(*(make() for make in makers), shape=shape)


def bn(**options):
    return lambda: layers.BatchNormalization(**options)


def dense(**options):
    return lambda: layers.Dense(3, name="dense", **options)


def shared_norm(x):
    norm = layers.BatchNormalization()
    return norm(layers.Dense(5)(x)) + norm(x)


def shared_norm_of_two(x):
    norm = layers.BatchNormalization()
    return norm(layers.Dense(5)(x)) + norm(layers.Dense(5)(x))


def shared_product(x):
    inner = layers.Dense(5, name="dense")
    return layers.BatchNormalization()(inner(x)) + inner(x)


def read_by_others(x):
    y = layers.Dense(5, name="dense")(x)
    return layers.BatchNormalization()(y) + y


def returned(x):
    y = layers.Dense(5, name="dense")(x)
    return [y, layers.BatchNormalization()(y)]


def tied():
    one, two = layers.Dense(5, name="dense"), layers.Dense(5, name="other")
    model = chain(one, layers.BatchNormalization(), two)
    with keras_internals.unlocked(two):
        two._kernel = one._kernel
    return model


def read_by_an_operation():
    one, x = dense()(), keras.Input(VECTOR)
    y = layers.BatchNormalization()(one(x))
    return draw(keras.Model(x, ops.einsum("bc,ac->ba", y, one.kernel)))


class Hiding(layers.Layer):
    """Calls a layer that Keras does not see."""

    def __init__(self, layer, **options):
        super().__init__(**options)
        self.hidden = lambda: layer

    def call(self, x):
        return self.hidden()(x)


def called_by_hiding_code():
    one, x = dense()(), keras.Input((3,))
    y = layers.BatchNormalization()(one(x))
    return draw(keras.Model(x, Hiding(one, name="hiding")(y)))


def kept_by_another_model():
    model = chain(dense()(), layers.BatchNormalization())
    model.features = keras.Model(model.inputs, model.layers[0].output, name="features")
    return model


def with_lora():
    model = chain(dense()(), layers.BatchNormalization())
    model.layers[0].enable_lora(2)
    return model


def quantized_by_keras():
    model = chain(dense()(), layers.BatchNormalization())
    model.layers[0].quantize("int8")
    return model


def quantized(**options):
    def make():
        model = chain(dense()(), layers.BatchNormalization(name="norm"))
        qf.quantize(model, options)
        return model

    return make


def quantized_beta():
    model = chain(dense()(), layers.BatchNormalization(name="norm"))
    qf.quantize(model, "int8")
    model.layers[0].quantizers["input"] = model.layers[0].quantizers["kernel"] = None
    return model


def assigned(layer, weight, value):
    def make():
        model = chain(dense()(), layers.BatchNormalization(epsilon=1e-30))
        getattr(model.layers[layer], weight).assign([value, 1, 1])
        return model

    return make


REFUSALS = {
    "input": (sequence(bn()), "it reads an input of its model"),
    "relu": (sequence(dense(), layers.ReLU, bn()), "which is not a layer of products"),
    "operator": (functional(lambda x: bn()()(ops.tanh(x))), "(Tanh), which is not a layer"),
    "activation": (sequence(dense(activation="relu"), bn()), "the activation relu before"),
    "norm": (functional(shared_norm), "it reads an input of its model"),
    "norm of two": (functional(shared_norm_of_two), "it is shared: it reads the outputs"),
    "product": (functional(shared_product), "reads the output of 'dense' too"),
    "others": (functional(read_by_others), "reads the output of 'dense' too"),
    "output": (functional(returned), "the output of 'dense' is an output of 'functional"),
    "other model": (kept_by_another_model, "of 'dense' is an output of 'features' too"),
    "training": (
        functional(lambda x: bn()()(dense()()(x), training=True)),
        "it is called with training=True",
    ),
    "training around": (
        functional(lambda x: chain(dense()(), bn()())(x, training=True)),
        "it is called with training=True",
    ),
    "mask": (
        functional(lambda x: bn()()(dense()()(x), mask=ops.all(x > 0, -1)), TIME),
        "it is called with other arguments than one tensor",
    ),
    "axis": (
        sequence(lambda: layers.Conv1D(3, 1, name="conv"), bn(axis=1), shape=TIME),
        "it normalizes axis 1, and the channels of 'conv' are axis 2",
    ),
    "einsum": (
        sequence(
            lambda: layers.EinsumDense("abc,cd->abd", (6, 3), name="dense"),
            bn(axis=1),
            shape=TIME,
        ),
        "it normalizes axis 1, which the kernel of 'dense' does not have",
    ),
    "einsum bias": (
        sequence(
            lambda: layers.EinsumDense("ab,bcd->acd", (2, 3), bias_axes="c"), bn(axis=-1)
        ),
        "has bias_axes='c', without the axis of the channels",
    ),
    "dtype": (
        sequence(dense(dtype="mixed_bfloat16"), bn(dtype="float32")),
        # Older versions of Keras write the cast into the graph.
        "'dense' computes in bfloat16, and it in float32"
        if KERAS > (3, 6)
        else "(Cast), which is not a layer of products",
    ),
    "override": (
        sequence(lambda: Doubled(3), bn()),
        "Doubled overrides call, which the call of Dense uses",
    ),
    "override of norm": (sequence(dense(), DoubledNorm), "DoubledNorm overrides call"),
    "own class": (
        sequence(lambda: Own(3, use_bias=False), bn()),
        "its class Own is not of Keras",
    ),
    "regularizer": (
        sequence(dense(), bn(activity_regularizer="l2")),
        "it has an activity_regularizer",
    ),
    "wrapper": (
        sequence(dense(), lambda: layers.TimeDistributed(bn()()), shape=TIME),
        "may be called by the code of 'time_distributed",
    ),
    "hidden": (called_by_hiding_code, "may be called by the code of 'hiding'"),
    "shared weight": (tied, "'other' shares a weight with 'dense'"),
    "read": (read_by_an_operation, "reads a weight of 'dense' too"),
    "quantized": (quantized(kernel_quantizer="ste_sign"), "call qframe.strip(model), fold"),
    "quantized beta": (quantized_beta, "'norm' is quantized"),
    "lora": (with_lora, "LoRA is enabled on 'dense'"),
    "keras": (quantized_by_keras, "Keras has quantized 'dense': int8"),
    "NaN": (assigned(1, "gamma", np.nan), "are not finite, or a variance is negative"),
    "negative": (assigned(1, "moving_variance", -1.0), "or a variance is negative"),
    "infinite bias": (assigned(0, "bias", np.inf), "are not finite"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_a_refusal_has_its_reason_and_changes_nothing(case):
    make, reason = REFUSALS[case]
    model = make()
    before = [ops.convert_to_numpy(v) for v in model.variables]
    classes = [type(layer) for layer in model._flatten_layers()]
    with pytest.raises(ArgumentError, match="no batch normalization of") as error:
        qf.fold_batchnorm(model)
    assert reason in str(error.value)
    assert [type(layer) for layer in model._flatten_layers()] == classes
    for a, b in zip(before, model.variables, strict=True):
        np.testing.assert_array_equal(a, ops.convert_to_numpy(b))


@pytest.mark.parametrize(
    ("kernel", "gamma", "message"),
    [(1e20, 1e20, "they are larger than 3.4"), (1e-20, 1e-20, "no number larger than")],
)
def test_numbers_that_float32_cannot_hold_are_refused(kernel, gamma, message):
    model = chain(layers.Dense(1), layers.BatchNormalization(scale=True, center=False))
    first, norm = model.layers
    first.kernel.assign(np.full((5, 1), kernel))
    norm.gamma.assign([gamma])
    with pytest.raises(ArgumentError, match=message):
        qf.fold_batchnorm(model)


def test_a_report_has_folded_and_skipped_rows_and_names_constraints():
    constrained = layers.Dense(3, kernel_constraint="non_neg", name="dense")
    model = chain(constrained, layers.BatchNormalization(), layers.BatchNormalization())
    report = qf.fold_batchnorm(model)
    assert "1 of 2 batch normalizations folded" in str(report)
    (folded,), (skipped,) = report.folded, report.skipped
    assert "are subject to kernel_constraint of 'dense' in training" in folded.reason
    assert "which is not a layer of products" in skipped.reason
    assert report.to_dict()["rows"][0]["settings"] == {"folded_into": "dense"}
    # What follows can be folded neither now: an Identity is between.
    with pytest.raises(ArgumentError, match="Identity"):
        qf.fold_batchnorm(model)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: chain(layers.Dense(2)), ArgumentError, "has no keras.layers.BatchNorm"),
        (layers.BatchNormalization, ArgumentError, "takes a keras.Model"),
        (lambda: keras.Sequential([bn()()]), NotBuiltError, "is not built"),
    ],
)
def test_errors(make, error, message):
    model = make()
    with pytest.raises(error, match=message):
        qf.fold_batchnorm(model)


def test_an_optimizer_that_cannot_be_made_again_is_an_error():
    class Odd(keras.optimizers.SGD):
        def get_config(self):
            raise NotImplementedError("no config")

    model = chain(layers.Dense(3), layers.BatchNormalization())
    with contextlib.suppress(NotImplementedError):  # of the config of the compilation
        model.compile(Odd(), "mse", **WITHOUT_XLA)
    model.optimizer.build(model.trainable_variables)
    before = state(model)
    with pytest.raises(ArgumentError, match=r"no config\. Write model.optimizer = None"):
        qf.fold_batchnorm(model)
    assert state(model) == before
    model.optimizer = None
    assert qf.fold_batchnorm(model).notes == ()
