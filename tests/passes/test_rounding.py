"""Weights rounded by moments: against NumPy, on every topology, and what is refused."""

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras import layers, ops

import qframe as qf
from qframe.errors import ArgumentError, DataError, PluginError, UnknownNameError
from qframe.passes import rounding
from qframe.passes.rounding.matrices import matrices_of
from qframe.passes.rounding.rounders import rounder_of
from topology_models import TOPOLOGIES

WEIGHTS = "integer(bits=3, granularity='channel', narrow_range=True)"
RECIPE = "integer_inference(weight_bits=3)"


def network(*parts, shape=(6,), seed=0):
    keras.utils.set_random_seed(seed)
    return keras.Sequential([keras.Input(shape), *parts])


def two_layers():
    parts = layers.Dense(5, activation="relu", name="one"), layers.Dense(3, name="two")
    return network(*parts)


def examples(*shape, seed=0):
    rng = np.random.default_rng(seed)
    # Correlated inputs, with means.
    mix = rng.normal(size=(shape[-1], shape[-1]))
    return (rng.normal(size=shape) @ mix + rng.normal(size=shape[-1])).astype("float32")


def weights_of(model):
    return [ops.convert_to_numpy(weight) for weight in model.weights]


# --- The formulas, by hand.


def grid(weights, bits=3):
    """The step of each output, and the levels."""
    top = 2 ** (bits - 1) - 1
    return np.abs(weights).max(0) / top, top


def gptq_of_the_paper(weights, moments, step, top):
    """Round row by row, and update the rest by the inverse, which then loses the row."""
    weights, order = weights.copy(), np.argsort(-np.diag(moments), kind="stable")
    moments = moments + 0.01 * np.diag(moments).mean() * np.eye(len(moments))
    inverse, left, result = np.linalg.inv(moments), list(order), np.empty_like(weights)
    index = {i: i for i in range(len(weights))}
    for i in order:
        result[i] = np.clip(np.rint(weights[i] / step), -top, top)
        error = (weights[i] - result[i] * step) / inverse[i, i]
        for j in left:
            weights[index[j]] -= inverse[i, j] * error
        inverse = inverse - np.outer(inverse[:, i], inverse[i]) / inverse[i, i]
        left.remove(i)
    return result


def adaround_of_the_paper(weights, moments, step, top, steps=500):
    """Adam on what is added to the levels below, with derivatives by complex steps."""
    below = np.clip(np.floor(weights / step), -top, top - 1)
    nearest = np.clip(np.rint(weights / step), -top, top)
    # Rows with these moments.
    values, vectors = np.linalg.eigh(moments)
    rows = np.sqrt(np.maximum(values, 0))[:, None] * vectors.T

    def added(v):
        h = 1.2 / (1 + np.exp(-v)) - 0.1
        return np.where(h.real <= 0, 0, np.where(h.real >= 1, 1, h))

    def squares(integers):
        return np.square(rows @ (integers * step - weights)).sum(0)

    def loss(v, done):
        """That of each output."""
        distance = 2 * added(v) - 1
        distance = np.where(distance.real < 0, -distance, distance)
        beta = 20 - 18 * (done - 0.2) / 0.8
        penalty = 0.01 * (1 - distance**beta).sum(0) if done > 0.2 else 0
        return squares(below + added(v)) * weights.size / squares(nearest).sum() + penalty

    start = np.clip(weights / step - below, 0.01, 0.99)
    v = np.log((start + 0.1) / (1.1 - start))
    mean = square = 0
    for t in range(1, steps + 1):
        slopes = []
        for i in range(len(v)):
            moved = v.astype(complex)
            moved[i] += 1e-30j
            slopes.append(loss(moved, t / steps).imag / 1e-30)
        slope = np.array(slopes)
        mean, square = 0.9 * mean + 0.1 * slope, 0.999 * square + 0.001 * slope**2
        size = np.sqrt(square / (1 - 0.999**t)) + 1e-8
        v = v - 0.01 * mean / (1 - 0.9**t) / size
    found = below + np.rint(added(v))
    return np.where(squares(found) <= squares(nearest), found, nearest)


def by_hand(model, x, rounder):
    """The integers, steps and biases of two dense layers with a ReLU between."""
    in_float = quantized = x.astype(np.float64)
    found = []
    for layer in model.layers:
        kernel, bias = (
            ops.convert_to_numpy(w).astype(np.float64) for w in layer.weights[:2]
        )
        means = quantized.mean(0), in_float.mean(0)
        q, f = quantized - means[0], in_float - means[1]
        moments, crossed = q.T @ q / len(q), q.T @ f / len(q)
        damping = 0.01 * np.diag(moments).mean() * np.eye(len(moments))
        wanted = kernel
        if rounder is not None:
            wanted = np.linalg.solve(moments + damping, (crossed + damping) @ kernel)
        step, top = grid(wanted)
        if rounder is None:
            integers = np.clip(np.rint(kernel / step), -top, top)
        else:
            integers = rounder(wanted, moments, step, top)
        moved = bias + means[1] @ kernel - means[0] @ (integers * step)
        found.append((integers, step, moved))
        in_float = np.maximum(in_float @ kernel + bias, 0)
        quantized = np.maximum(quantized @ (integers * step) + moved, 0)
    return found


@pytest.mark.parametrize(
    ("method", "rounder"),
    [
        ("nearest", None),
        ("gptq", gptq_of_the_paper),
        ("adaround", adaround_of_the_paper),
    ],
)
def test_round_weights_of_two_layers_equals_numpy(method, rounder):
    model, x = two_layers(), examples(200, 6)
    qf.quantize(model, {"kernel_quantizer": WEIGHTS})
    expected = by_hand(model, x, rounder)
    report = qf.round_weights(model, x, method, verbose=0)
    assert [row.path for row in report.rounded] == ["one", "two"]
    for layer, (integers, step, bias) in zip(model.layers, expected, strict=True):
        found = qf.integers(model)[f"{layer.name}/kernel"]
        np.testing.assert_array_equal(found.values, integers)
        np.testing.assert_allclose(found.scale.ravel(), step, 1e-6)
        moved = ops.convert_to_numpy(layer.quantized_weights()["bias"])
        np.testing.assert_allclose(moved, bias, 1e-5, 1e-6)


@pytest.mark.parametrize("method", ["gptq", "adaround(steps=100)"])
@given(sizes=st.tuples(*[st.integers(1, 9)] * 2), seed=st.integers(0, 2**32 - 1))
def test_no_output_has_a_larger_error_than_of_the_nearest_levels(method, sizes, seed):
    rng, (size, outputs) = np.random.default_rng(seed), sizes
    inputs = rng.normal(size=(12, size)) @ rng.normal(size=(size, size))
    weights = rng.normal(size=(1, size, outputs))
    step = np.abs(weights).max(1, keepdims=True) / 3 + 0 * weights
    moments = (inputs.T @ inputs)[None] / 12
    task = qf.passes.Rounding(weights, moments, -3 * step, step, 7)
    levels = rounder_of(method, {})(task)
    assert set(np.unique(levels)) <= set(range(7))
    values = [task.values(each)[0] for each in (levels, task.nearest())]
    errors = [np.square(inputs @ (each - weights[0])).sum(0) for each in values]
    assert (errors[0] <= errors[1] + 1e-9).all()
    if method != "gptq":  # it chooses among the neighbours of a weight
        assert (np.abs(values[0] - weights[0]) < step[0] * 1.0001).all()


@pytest.mark.parametrize("method", ["gptq", "adaround"])
def test_a_rounder_of_three_inputs_is_near_the_best_of_all_levels(method):
    rng = np.random.default_rng(2)
    ratios = []
    for _ in range(10):
        inputs = rng.normal(size=(40, 3)) @ rng.normal(size=(3, 3))
        weights = rng.normal(size=(1, 3, 1))
        moments, step = (inputs.T @ inputs)[None] / 40, np.full((1, 3, 1), 0.7)
        task = qf.passes.Rounding(weights, moments, -2 * step, step, 5)
        every = np.stack(np.meshgrid(*[range(5)] * 3), -1).reshape(-1, 1, 3, 1)
        best = min(task.error(levels.astype(float)) for levels in every)
        found = task.error(rounder_of(method, {})(task))
        nearest = task.error(task.nearest())
        assert best <= found * (1 + 1e-9)
        ratios.append((found - best) / max(nearest - best, 1e-12) if nearest > best else 0)
    assert np.mean(ratios) < 0.5  # half of what the nearest levels lose


# --- Layers as matrices.

MATRICES = [
    (layers.Dense(3), (5, 4)),
    (layers.EinsumDense("abc,cde->abde", (None, 3, 2), bias_axes="de"), (5, 4)),
    (layers.EinsumDense("abcd,cde->abe", (5, 6), bias_axes="e"), (5, 4, 3)),
    (layers.EinsumDense("...x,xy->...y", 7, bias_axes="y"), (5, 4)),
    (layers.EinsumDense("bgk,gkf->bgf", (5, 6), bias_axes="gf"), (5, 4)),
    (layers.EinsumDense("btx,xy->bty", (5, 6), bias_axes="ty"), (5, 4)),
    (layers.Conv1D(6, 3, padding="causal", dilation_rate=2), (9, 4)),
    (layers.Conv2D(6, 3, strides=2, padding="same", groups=2), (9, 8, 4)),
    (layers.Conv2D(6, (3, 2), padding="valid", dilation_rate=(2, 1)), (9, 8, 4)),
    (layers.Conv3D(6, 3, padding="same"), (5, 6, 4, 3)),
    (layers.DepthwiseConv1D(3, padding="same"), (9, 4)),
    (layers.DepthwiseConv2D(3, 2, padding="same", depth_multiplier=2), (9, 8, 4)),
    (layers.Conv1DTranspose(5, 4, 2, padding="same"), (5, 3)),
    (layers.Conv2DTranspose(5, 3, 2, padding="same", output_padding=1), (5, 4, 3)),
    (layers.Conv2DTranspose(5, 2, 3, padding="valid"), (5, 4, 3)),
    (layers.Conv2DTranspose(5, 3, padding="same", dilation_rate=2), (5, 4, 3)),
    (layers.SeparableConv2D(5, 3, 2, padding="same", depth_multiplier=2), (9, 8, 4)),
]


@pytest.mark.parametrize(("layer", "shape"), MATRICES)
def test_rows_times_matrices_are_the_outputs_of_a_layer(layer, shape):
    layer = type(layer).from_config(layer.get_config())
    layer.build((None, *shape))
    rng, x = np.random.default_rng(0), examples(2, *shape)
    layer.bias.assign(rng.normal(size=layer.bias.shape))
    bias, outputs = (np.asarray(ops.convert_to_numpy(v)) for v in (layer.bias, layer(x)))
    attribute = "pointwise_kernel" if hasattr(layer, "pointwise_kernel") else "kernel"
    kernel = ops.convert_to_numpy(getattr(layer, attribute))
    matrices = matrices_of(layer, attribute, kernel.shape)
    read, count = matrices.rows(x), matrices.count(x.shape)
    rows, chosen = read(np.arange(count)), np.array([0, count - 1])
    np.testing.assert_array_equal(read(chosen), rows[:, chosen])
    products = np.einsum("gnk,gkf->ngf", rows, kernel.ravel()[matrices.order])
    # The outputs have the rows first, and then the channels as the matrices have them.
    np.testing.assert_allclose(
        products.reshape(-1), (outputs - bias).reshape(-1), 1e-3, 1e-4
    )


# --- What becomes of a model.


# Each kernel is in a loop over time, or that of a user's layer.
NOT_ROUNDED = {
    *("float16 recurrent", "custom layer", "simple rnn", "lstm", "gru", "gru of one bias"),
    *("unrolled lstm", "rnn of a cell", "stacked cells", "states of an rnn"),
    *("stateful rnn", "masked rnn", "bidirectional", "bidirectional, two layers given"),
    "bidirectional in time distributed",
}


@pytest.mark.every_case
@pytest.mark.one_case_in(2)
@pytest.mark.parametrize("topology", TOPOLOGIES, ids=str)
def test_round_weights_reaches_each_topology(topology):
    model = topology.model()
    before = weights_of(model)
    qf.quantize(model, {"weight_quantizer": WEIGHTS})
    plain = topology.call(model)
    if topology.name in NOT_ROUNDED:
        with pytest.raises(ArgumentError, match="can be rounded"):
            qf.round_weights(model, topology.inputs(), verbose=0)
        for old, new in zip(plain, topology.call(model), strict=True):
            np.testing.assert_array_equal(old, new)
        return
    report = qf.round_weights(model, topology.inputs(), verbose=0)
    assert len(report.rounded) + len(report.skipped) == len(report.rows)
    assert all(row.reason for row in report.skipped)
    integers = {
        path: found
        for path, found in qf.integers(model, strict=False).items()
        if not path.endswith("bias")
    }
    for row in report.rounded:
        (attribute,) = row.settings
        found = integers[f"{row.path}/{attribute}"]
        assert np.abs(found.values).max(initial=0) <= 3
    qf.strip(model)
    for old, new in zip(before, weights_of(model), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.fixture
def rounded():
    """A network with rounded weights, its data, and its float weights."""
    model = network(
        layers.Conv2D(6, 3, activation="relu"),
        layers.DepthwiseConv2D(3),
        layers.Flatten(),
        layers.Dense(4, use_bias=False),
        shape=(8, 8, 2),
    )
    x, before = examples(64, 8, 8, 2), weights_of(model)
    qf.quantize(model, RECIPE)
    qf.calibrate(model, x, verbose=0)
    return model, x, before, qf.round_weights(model, x, verbose=0)


def test_rounded_weights_come_back_from_a_file(rounded, tmp_path):
    model, x, *_ = rounded
    model.save(tmp_path / "m.keras")
    loaded = qf.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), model.predict(x, verbose=0))
    for path, integers in qf.integers(model).items():
        other = qf.integers(loaded)[path]
        np.testing.assert_array_equal(other.values, integers.values)
        np.testing.assert_array_equal(other.scale, integers.scale)


@pytest.mark.two_backends
def test_rounded_weights_come_back_from_a_clone(rounded):
    model, x, *_ = rounded
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    np.testing.assert_array_equal(clone.predict(x, verbose=0), model.predict(x, verbose=0))


@pytest.mark.two_backends
def test_rounded_weights_leave_the_size_as_it_is(rounded):
    model, _, _, _ = rounded
    size = qf.models.profile(model).memory
    qf.strip(model)
    qf.quantize(model, RECIPE)
    plain = qf.models.profile(model).memory
    # Ranges of activations count, before and after they are set.
    assert size == plain


@pytest.mark.two_backends
def test_rounded_weights_are_those_of_a_packed_file(rounded, tmp_path):
    pytest.importorskip("safetensors", reason="the extra packed is not installed")
    model, x, *_ = rounded
    qf.export(model, tmp_path / "m.safetensors", target="packed")
    packed = qf.packed.load(tmp_path / "m.safetensors")
    np.testing.assert_allclose(packed.predict(x), model.predict(x, verbose=0), 1e-4, 1e-4)


def test_strip_gives_the_float_weights_back(rounded):
    model, _, before, _ = rounded
    qf.strip(model)
    for old, new in zip(before, weights_of(model), strict=True):
        np.testing.assert_array_equal(old, new)
    assert type(model.layers[0]) is layers.Conv2D


@pytest.mark.two_backends
def test_strip_with_freeze_keeps_the_rounded_weights(rounded):
    model, _, _, _ = rounded
    integers = {path: each.dequantized() for path, each in qf.integers(model).items()}
    qf.strip(model, freeze=True)
    kernel = ops.convert_to_numpy(model.layers[0].kernel)
    np.testing.assert_allclose(kernel, integers[f"{model.layers[0].name}/kernel"], 1e-6)


def test_training_goes_on_from_the_rounded_weights(rounded):
    model, x, *_ = rounded
    before = qf.integers(model)
    model.compile(keras.optimizers.SGD(1e-6), "mse")
    model.fit(x, np.zeros((64, 4), "float32"), epochs=1, verbose=0)
    for path, integers in qf.integers(model).items():
        # A step of training moves few weights across the middle of two levels.
        assert (integers.values == before[path].values).mean() > 0.9
    latent = ops.convert_to_numpy(model.layers[0].kernel)
    assert np.isfinite(latent).all()


def test_weights_with_learned_scales_are_trained_after_rounding():
    model, x = two_layers(), examples(64, 6)
    qf.quantize(model, {"kernel_quantizer": "lsq(bits=4)"})
    model.compile(keras.optimizers.SGD(1e-2), "mse")
    y = np.zeros((64, 3), "float32")
    model.fit(x, y, epochs=1, verbose=0)
    qf.round_weights(model, x, verbose=0)
    latent = ops.convert_to_numpy(model.layers[1].kernel)
    model.fit(x, y, epochs=1, verbose=0)
    assert np.abs(ops.convert_to_numpy(model.layers[1].kernel) - latent).max() > 0
    assert all(np.isfinite(weight).all() for weight in weights_of(model))


@pytest.mark.two_backends
def test_a_second_call_begins_again(rounded):
    model, x, *_ = rounded
    once = model.predict(x, verbose=0)
    qf.round_weights(model, x, "nearest", verbose=0)
    assert not np.array_equal(model.predict(x, verbose=0), once)
    qf.round_weights(model, x, verbose=0)
    np.testing.assert_allclose(model.predict(x, verbose=0), once, 1e-5, 1e-5)


def test_a_second_call_without_biases_drops_the_corrections():
    model, x = two_layers(), examples(50, 6)
    qf.quantize(model, {"kernel_quantizer": WEIGHTS})
    expected = model.predict(x, verbose=0)
    qf.round_weights(model, x, verbose=0)
    qf.round_weights(model, x, "nearest", correct_biases=False, verbose=0)
    assert all(set(layer.quantizers) == {"kernel"} for layer in model.layers)
    np.testing.assert_allclose(model.predict(x, verbose=0), expected, 1e-5, 1e-5)


def test_a_second_call_in_a_loop_of_layers_begins_again():
    keras.utils.set_random_seed(0)
    x, start = examples(50, 4), keras.Input((4,))
    one, two = layers.Dense(4, activation="relu"), layers.Dense(4)
    model = keras.Model(start, two(one(two(one(start)))))
    qf.quantize(model, {"kernel_quantizer": WEIGHTS})
    qf.round_weights(model, x, verbose=0)
    expected = model.predict(x, verbose=0)
    qf.round_weights(model, x, verbose=0)
    np.testing.assert_array_equal(model.predict(x, verbose=0), expected)


def test_an_error_in_a_second_call_restores_the_first(model):
    qf.round_weights(model, examples(50, 6), verbose=0)
    data = np.full((4, 6), np.nan, "float32")
    assert "'one'" in unchanged(model, lambda: qf.round_weights(model, data, verbose=0))


@pytest.mark.two_backends
def test_outputs_are_nearer_to_the_float_model(rounded):
    model, x, _, report = rounded
    after = model.predict(x, verbose=0)
    with qf.float_weights(model):
        in_float = model.predict(x, verbose=0)
    qf.strip(model)
    qf.quantize(model, RECIPE)
    qf.calibrate(model, x, verbose=0)
    plain = model.predict(x, verbose=0)
    assert np.square(after - in_float).sum() < 0.5 * np.square(plain - in_float).sum()
    assert "it has no bias to correct" in report.rounded[-1].reason


def test_biases_stay_without_correct_biases():
    model, x = two_layers(), examples(50, 6)
    qf.quantize(model, {"kernel_quantizer": WEIGHTS})
    qf.round_weights(model, x, correct_biases=False, verbose=0)
    assert all(set(layer.quantizers) == {"kernel"} for layer in model.layers)


@pytest.mark.parametrize(
    ("equation", "output", "axes"),
    [
        ("abc,cd->abd", (4, 5), "d"),
        ("abc,cd->adb", (5, 4), "d"),
        ("abc,cd->adb", (5, 4), "bd"),
        ("abc,cde->abde", (4, 2, 2), "ed"),
        ("ab...,bd->ad...", (5, 3), "d"),
    ],
)
def test_biases_of_einsum_make_up_for_the_mean_error(equation, output, axes):
    layer = layers.EinsumDense(equation, output, bias_axes=axes)
    # Of a constant, a bias makes up for all of the error.
    model, x = network(layer, shape=(4, 3)), np.ones((20, 4, 3), "float32")
    expected = model.predict(x, verbose=0)
    qf.quantize(model, {"kernel_quantizer": "integer(bits=3)"})
    qf.round_weights(model, x, "nearest", verbose=0)
    np.testing.assert_allclose(model.predict(x, verbose=0), expected, 1e-4, 1e-4)


@pytest.mark.two_backends
def test_a_corrected_bias_is_on_the_grid_of_sums():
    model = network(layers.Conv2D(4, 3), layers.BatchNormalization(), shape=(6, 6, 2))
    x = examples(40, 6, 6, 2)
    qf.quantize(model, "w4a8")
    qf.calibrate(model, x, verbose=0)
    qf.round_weights(model, x, verbose=0)
    norm, conv = model.layers[1], model.layers[0]
    bias = ops.convert_to_numpy(conv.quantized_weights()["bias"]).astype(np.float64)
    values = [ops.convert_to_numpy(v).astype(np.float64) for v in norm.variables[:4]]
    gamma, _, mean, variance = values
    beta = ops.convert_to_numpy(norm.quantized_weights()["beta"]).astype(np.float64)
    factor = gamma / np.sqrt(variance + norm.epsilon)
    folded = beta + (bias - mean) * factor
    scale = conv.kernel_quantizer.affine(conv.kernel, channel_axis=-1)[0]
    step = ops.convert_to_numpy(scale).ravel() * float(
        ops.convert_to_numpy(conv.input_quantizer.affine(x)[0])
    )
    steps = folded / (step * np.abs(factor))
    np.testing.assert_allclose(steps, np.rint(steps), atol=2e-2)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_weights_of_any_dtype_are_rounded(dtype):
    parts = layers.Dense(5, activation="relu", dtype=dtype), layers.Dense(3, dtype=dtype)
    model, x = network(*parts), examples(60, 6)
    qf.quantize(model, {"kernel_quantizer": "integer(bits=8, granularity='channel')"})
    qf.round_weights(model, x, verbose=0)
    # Values of so few bits are rounded once more than the levels.
    error = {"float16": 1e-3, "bfloat16": 8e-3, "float64": 1e-6}[dtype]
    for path, integers in qf.integers(model).items():
        layer = model.get_layer(path.split("/")[0])
        value = ops.cast(layer.quantized_weights()["kernel"], "float32")
        found = ops.convert_to_numpy(value)
        np.testing.assert_allclose(found, integers.dequantized(), error, 1e-7)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_weights_of_a_model_in_mixed_precision_are_on_the_grid_of_float32(policy):
    keras.config.set_dtype_policy(policy)
    try:
        model, x = network(layers.Dense(5), layers.Dense(3)), examples(60, 6)
        qf.quantize(model, {"kernel_quantizer": "integer(bits=8, granularity='channel')"})
        qf.round_weights(model, x, verbose=0)
        found = qf.integers(model)
    finally:
        keras.config.set_dtype_policy("float32")
    for path, integers in found.items():
        quantizer = model.get_layer(path.split("/")[0]).kernel_quantizer
        scale = ops.convert_to_numpy(quantizer.scale)
        np.testing.assert_allclose(integers.dequantized() / scale, integers.values)


def test_few_examples_for_many_inputs_are_remarked():
    model = two_layers()
    qf.quantize(model, {"kernel_quantizer": WEIGHTS})
    one, two = qf.round_weights(model, examples(11, 6), verbose=0).rounded
    assert "11 rows for its 6 inputs" in one.reason
    assert "give more examples" in one.reason
    assert not two.reason  # it has 5 inputs


@pytest.mark.parametrize("rows", [1, 10, 30])
def test_few_examples_do_not_make_other_data_worse(rows):
    ratios = []
    for seed in range(4):
        model = network(layers.Dense(20, "relu"), layers.Dense(10), shape=(30,), seed=seed)
        x = examples(rows + 300, 30, seed=seed)
        in_float = model.predict(x[rows:], verbose=0)
        qf.quantize(model, {"kernel_quantizer": "integer(bits=4, granularity='channel')"})
        errors = [np.square(model.predict(x[rows:], verbose=0) - in_float).mean()]
        qf.round_weights(model, x[:rows], verbose=0)
        errors.append(np.square(model.predict(x[rows:], verbose=0) - in_float).mean())
        ratios.append(errors[1] / errors[0])
    # Without the shrinking of moments it is 1.4 to 2.1 for up to ten rows.
    assert np.median(ratios) < 1.1


@pytest.mark.two_backends
def test_dead_inputs_keep_the_nearest_levels():
    model, x = two_layers(), examples(50, 6)
    x[:, 2] = 0
    qf.quantize(model, {"kernel_quantizer": WEIGHTS})
    qf.round_weights(model, x, verbose=0)
    assert np.isfinite(model.predict(x, verbose=0)).all()


@pytest.mark.two_backends
def test_constant_inputs_are_rounded():
    model, x = two_layers(), np.ones((20, 6), "float32")
    qf.quantize(model, {"kernel_quantizer": WEIGHTS})
    qf.round_weights(model, x, verbose=0)
    with qf.float_weights(model):
        expected = model.predict(x, verbose=0)
    # Biases make up for all of the error of a constant.
    np.testing.assert_allclose(model.predict(x, verbose=0), expected, 1e-4, 1e-4)


@pytest.mark.parametrize(
    "quantizer",
    [
        "integer(bits=4, granularity='group', group_size=3)",
        "integer(bits=4, symmetric=False)",
        "integer(bits=3, granularity='channel', range='mse')",
        "integer(bits=4, gather='widest')",
        "dorefa(k_bit=2)",
        "lsq(bits=4)",
        "ste_sign",
        "ste_tern",
    ],
)
def test_any_evenly_spaced_quantizer_is_rounded(quantizer):
    model, x = two_layers(), examples(60, 6)
    qf.quantize(model, {"kernel_quantizer": quantizer})
    report = qf.round_weights(model, x, verbose=0)
    assert len(report.rounded) == 2
    for path, integers in qf.integers(model).items():
        layer = model.get_layer(path.split("/")[0])
        value = ops.convert_to_numpy(layer.quantized_weights()["kernel"])
        np.testing.assert_allclose(integers.dequantized(), value, 1e-6, 1e-7)


@pytest.mark.parametrize("quantizer", [WEIGHTS, None])
def test_another_quantizer_of_a_rounded_weight_ends_the_correction_of_the_bias(quantizer):
    model, x = two_layers(), examples(60, 6)
    qf.quantize(model, {"kernel_quantizer": WEIGHTS})
    qf.round_weights(model, x, verbose=0)
    one, two = model.layers
    if quantizer is None:
        del one.quantizers["kernel"]
    else:
        one.quantizers["kernel"] = quantizer
    assert "bias" not in one.quantizers
    assert "corrected" in str(two.quantizers["bias"])
    expected = x @ ops.convert_to_numpy(one.quantized_weights().get("kernel", one.kernel))
    expected += ops.convert_to_numpy(one.bias)
    found = ops.convert_to_numpy(one(x))
    np.testing.assert_allclose(found, np.maximum(expected, 0), 1e-4, 1e-4)


# --- What is refused, before anything changes.


def unchanged(model, call):
    """Return the text of the error of a call that changes nothing."""
    before, kinds = (
        weights_of(model),
        [repr(getattr(layer, "quantizers", "")) for layer in model.layers],
    )
    with pytest.raises((ArgumentError, DataError, UnknownNameError, PluginError)) as caught:
        call()
    assert [repr(getattr(layer, "quantizers", "")) for layer in model.layers] == kinds
    for old, new in zip(before, weights_of(model), strict=True):
        np.testing.assert_array_equal(old, new)
    return str(caught.value)


@pytest.fixture
def model():
    model = two_layers()
    qf.quantize(model, {"kernel_quantizer": WEIGHTS})
    return model


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (None, "round_weights data is None"),
        (np.zeros((0, 6), "float32"), "is empty"),
        (np.zeros((4, 5), "float32"), "has the shape (4, 5)"),
        (np.full((4, 6), np.nan, "float32"), "NaN or infinity reached 'one'"),
    ],
)
def test_wrong_data_is_an_error(model, data, text):
    assert text in unchanged(model, lambda: qf.round_weights(model, data, verbose=0))


def test_nan_in_the_second_layer_undoes_the_first(model):
    model.layers[1].kernel.assign(np.full((5, 3), np.nan))
    text = unchanged(model, lambda: qf.round_weights(model, examples(9, 6), verbose=0))
    assert "'two'" in text


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"method": "gptp"}, "unknown rounder 'gptp'"),
        ({"method": "gptq", "damping": 0}, "damping"),
        ({"method": "nearest", "damping": 0.1}, "no argument 'damping'"),
        ({"method": "gptq", "damping": float("inf")}, "damping"),
        ({"method": "adaround", "learning_rate": float("inf")}, "learning_rate"),
        ({"samples": 0}, "samples"),
        ({"batch_size": 0}, "batch_size"),
        ({"steps": -1}, "steps"),
        ({"correct_biases": 1}, "correct_biases"),
    ],
)
def test_wrong_arguments_are_an_error(model, arguments, text):
    x = examples(9, 6)
    assert text in unchanged(model, lambda: qf.round_weights(model, x, **arguments))


def test_a_float_model_is_an_error():
    model = two_layers()
    text = unchanged(model, lambda: qf.round_weights(model, examples(9, 6)))
    assert "no weight of" in text
    assert "qframe.quantize(" in text


def test_missing_ranges_are_an_error():
    model = two_layers()
    qf.quantize(model, RECIPE)
    text = unchanged(model, lambda: qf.round_weights(model, examples(9, 6)))
    assert "qframe.calibrate(model, data)" in text
    assert "'one', 'two'" in text


def test_sensitivity_of_a_rounded_model_names_the_order():
    model, x = two_layers(), examples(30, 6)
    qf.quantize(model, {"kernel_quantizer": WEIGHTS})
    qf.round_weights(model, x, verbose=0)
    other = "integer(granularity='channel')"
    text = str(qf.sensitivity(model, x, quantizer=other, verbose=0))
    assert "one is skipped: its kernel was rounded" in text
    assert "before qframe.round_weights" in text


def test_calibrate_after_rounding_names_the_levels(rounded):
    model, x, *_ = rounded
    (note,) = qf.calibrate(model, x, verbose=0).notes
    assert "and 2 more were rounded for the ranges before" in note
    assert "qframe.round_weights(model, data) again" in note


def test_uneven_levels_are_a_reason():
    model = two_layers()
    qf.quantize(
        model,
        [
            ("re:^one$", {"kernel_quantizer": WEIGHTS}),
            ("Dense", {"kernel_quantizer": "quantized_po2(4)"}),
        ],
    )
    report = qf.round_weights(model, examples(30, 6), verbose=0)
    (row,) = report.skipped
    assert row.path == "two"
    assert "not evenly spaced" in row.reason


@pytest.mark.parametrize(
    ("result", "text"),
    [
        (lambda r: r.weights[0], "the shape (6, 5)"),
        (lambda r: r.weights + 0.5, "levels are integers"),
    ],
)
def test_a_wrong_rounder_is_named(model, result, text, monkeypatch):
    monkeypatch.setattr(rounding, "rounder_of", lambda method, options: result)
    assert text in unchanged(model, lambda: qf.round_weights(model, examples(9, 6)))


@pytest.mark.parametrize(
    ("quantizer", "text"),
    [
        ("rounded(quantizer='quantized_po2(4)')", "no evenly spaced levels"),
        ("rounded(quantizer='rounded')", "needs a value"),
        ("corrected(quantizer='corrected(quantizer=None)')", "another quantizer"),
    ],
)
def test_rounded_of_a_wrong_quantizer_is_an_error(quantizer, text):
    with pytest.raises(ArgumentError, match=text):
        qf.quantizers.get(quantizer)


@pytest.mark.parametrize(
    "quantizer", ["rounded(quantizer='integer')", "corrected(quantizer=None)"]
)
def test_rounded_activations_are_an_error(quantizer):
    model = two_layers()
    with pytest.raises(ArgumentError, match="is for weights"):
        qf.quantize(model, {"input_quantizer": quantizer})


def test_rounded_has_the_values_of_its_quantizer_until_it_is_set():
    x = examples(5, 4)
    inner = "integer(bits=3, granularity='channel')"
    rounded = qf.quantizers.get(f'rounded(quantizer="{inner}")')
    rounded.build(x.shape)
    np.testing.assert_array_equal(rounded(x), qf.quantizers.get(inner)(x))
    assert rounded.bits_of_scales(x.shape) == qf.quantizers.get(inner).bits_of_scales(
        x.shape
    )
