"""The quantizers of k bits: golden numbers by hand, and formulas in NumPy."""

import math

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import qframe as qf
from examples import settings
from fitting import WITHOUT_XLA
from qframe.errors import ArgumentError, QFrameError
from qframe.quantizers.differentiation import MODES, to_numpy, value_and_gradient
from state_gradients import state_gradients

pytestmark = pytest.mark.ends


def normal(shape, seed=0, dtype="float32"):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def run(quantizer, x, upstream=None, mode="eager"):
    upstream = np.ones_like(x) if upstream is None else upstream
    return value_and_gradient(quantizer, x, upstream, mode)


def model_of(*layers, shape):
    return keras.Sequential([keras.Input(shape), *layers])


def fit(model, x, y, steps=1, optimizer=None, **kwargs):
    """The mean squared errors before and after some steps on one batch."""

    def error():
        return float(np.mean((to_numpy(model(x)) - y) ** 2))

    before = error()
    optimizer = optimizer or keras.optimizers.Adam(0.05)
    model.compile(optimizer, "mse", **{**WITHOUT_XLA, **kwargs})
    again = [np.concatenate([array] * steps) for array in (x, y)]
    model.fit(*again, batch_size=len(x), shuffle=False, verbose=0)
    return before, error()


def reloaded(model, folder):
    model.save(folder / "model.keras")
    return qf.load_model(folder / "model.keras")


# DoReFa.


@pytest.mark.parametrize("mode", MODES)
def test_dorefa_activations_golden(mode):
    x = np.float32([-1, 0, 0.1, 0.2, 0.4, 0.5, 0.9, 1, 1.2])
    value, gradient = run(qf.quantizers.get("dorefa"), x, mode=mode)
    # 3 x is 0.3, 0.6, 1.2, 1.5 (to the even 2), 2.7
    thirds = [0, 0, 0, 1, 1, 2, 3, 3, 3]
    np.testing.assert_allclose(value, np.float32(thirds) / 3, rtol=1e-6)
    np.testing.assert_array_equal(gradient, [0, 1, 1, 1, 1, 1, 1, 1, 0])


@pytest.mark.parametrize("mode", MODES)
def test_dorefa_weights_golden(mode):
    # tanh x is 0, 0.25, -0.25, 0.5, -0.5; tanh x + 0.5 is 0.5, 0.75, 0.25, 1, 0.
    x = np.arctanh([0, 0.25, -0.25, 0.5, -0.5]).astype("float32")
    value, gradient = run(qf.quantizers.get("dorefa(mode='weights')"), x, mode=mode)
    # 3 times that is 1.5 (to the even 2), 2.25, 0.75, 3, 0.
    np.testing.assert_allclose(value, np.float32([1, 1, -1, 3, -3]) / 3, rtol=1e-6)
    np.testing.assert_allclose(gradient, [2, 1.875, 1.875, 1.5, 1.5], rtol=1e-5)


@pytest.mark.parametrize("mode", MODES)
def test_dorefa_sign_golden(mode):
    x = np.float32([[1, -4, 0], [-3, 0.5, -0.0], [1e-40, -1e-40, 0.5]])
    value, gradient = run(qf.quantizers.get("dorefa_sign"), x, mode=mode)
    # The sum of magnitudes is 9, for all nine together.
    np.testing.assert_array_equal(value, [[1, -1, 1], [-1, 1, 1], [1, 1, 1]])
    np.testing.assert_array_equal(gradient, np.ones((3, 3)))
    for zeros in (np.zeros((2, 3), "float32"), np.full((2, 3), -0.0, "float32")):
        np.testing.assert_array_equal(run(qf.quantizers.DoReFaSign(), zeros)[0], zeros)


def test_dorefa_sign_integers():
    conv = keras.layers.Conv2D(4, 3, use_bias=False)
    model = model_of(conv, shape=(6, 6, 2))
    qf.quantize(model, {"kernel_quantizer": "dorefa_sign"})
    kernel = to_numpy(conv.kernel)
    (actual,) = qf.integers(model).values()
    np.testing.assert_array_equal(actual.values, np.sign(kernel))
    np.testing.assert_allclose(np.unique(actual.scale), np.abs(kernel).mean(), rtol=1e-5)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("bits", "value"), [(1, -1), (2, 1 / 3), (3, 1 / 7), (4, 1 / 15)])
def test_dorefa_weights_of_zeros_are_larqs(bits, value, mode):
    quantizer = qf.quantizers.DoReFa(bits, "weights")
    for zero in (0.0, -0.0, 1e-40):
        actual, gradient = run(quantizer, np.full((3, 2), zero, "float32"), mode=mode)
        np.testing.assert_allclose(actual, np.full((3, 2), value), rtol=1e-6)
        np.testing.assert_array_equal(gradient, np.zeros((3, 2)))


def larq_dorefa(x, bits, mode):
    """The formula of the paper as Larq writes it, and its gradient."""
    n = 2**bits - 1
    if mode == "activations":
        inside = (x >= 0) & (x <= 1)
        return np.round(np.clip(x, 0, 1) * n) / n, inside.astype(x.dtype)
    limited = np.tanh(x)
    largest = np.abs(limited).max()
    y = limited / (2 * largest) + 0.5
    return 2 * np.round(y * n) / n - 1, (1 - limited**2) / largest


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("mode", ["activations", "weights"])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_dorefa_is_larqs(bits, mode, dtype):
    if dtype == "float64" and keras.backend.backend() == "jax":
        dtype = "float32"  # JAX makes it so
    x = normal((6, 11), bits, dtype)
    wide = x.astype("float64")
    value, gradient = run(qf.quantizers.DoReFa(bits, mode), x)
    expected, slope = larq_dorefa(wide, bits, mode)
    tolerance = 2 * float(np.finfo(dtype).eps)
    assert value.dtype == x.dtype
    np.testing.assert_allclose(value, expected, rtol=1e-6, atol=tolerance)
    np.testing.assert_allclose(gradient, slope, rtol=max(tolerance, 1e-5), atol=tolerance)


@pytest.mark.parametrize("mode", ["activations", "weights"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_dorefa_of_16_bits_fits_into_16_bit_floats(mode, dtype):
    x = keras.ops.cast(np.linspace(-1, 1, 33, dtype="float32"), dtype)
    actual = qf.quantizers.DoReFa(16, mode)(x)
    expected, _ = larq_dorefa(to_numpy(x).astype("float64"), 16, mode)
    eps = 2.0**-10 if dtype == "float16" else 2.0**-7
    np.testing.assert_allclose(to_numpy(actual), expected, rtol=eps, atol=2e-5)


@pytest.mark.parametrize("bits", [2, 12])
def test_dorefa_integers(bits):
    n = 2**bits - 1
    dense = keras.layers.Dense(3, use_bias=False)
    model = model_of(dense, shape=(4,))
    kernel = normal((4, 3))
    qf.quantize(model, {"kernel_quantizer": f"dorefa(k_bit={bits}, mode='weights')"})
    dense.set_weights([kernel])
    actual = qf.integers(model)[f"{dense.name}/kernel"]
    expected, _ = larq_dorefa(kernel.astype("float64"), bits, "weights")
    np.testing.assert_array_equal(actual.values, np.rint(expected * n))
    assert set(np.unique(actual.values % 2)) == {1}
    np.testing.assert_allclose(actual.scale, 1 / n, rtol=1e-6)
    assert not actual.zero_point.any()
    assert actual.precision == bits


# PACT.


@pytest.mark.parametrize("mode", MODES)
def test_pact_golden(mode):
    quantizer = qf.quantizers.PACT(bits=2, alpha=6.0)
    quantizer.build((9,))
    x = np.float32([-1, 0, 0.9, 1.1, 2.5, 4.9, 6, 6.5, np.inf])
    upstream = np.float32([1, 2, 4, 8, 16, 32, 64, 128, 256])
    value, gradient = run(quantizer, x, upstream, mode)
    np.testing.assert_array_equal(value, [0, 0, 0, 2, 2, 4, 6, 6, 6])
    np.testing.assert_array_equal(gradient, upstream * [0, 1, 1, 1, 1, 1, 1, 0, 0])
    # The rounding does not reach alpha: it has 1 beyond it, and 0 elsewhere.
    assert float(state_gradients(quantizer, x, upstream, mode)["alpha"]) == 128 + 256


def test_pact_learns_its_bound_and_decays():
    x = np.linspace(0, 4, 64, dtype="float32").reshape(16, 4)
    quantizer = qf.quantizers.PACT(bits=8, alpha=1.0)
    model = model_of(quantizer, shape=(4,))
    before, after = fit(model, x, x, 120)
    assert 3.5 < float(quantizer.bound) < 4.5
    assert after < 0.01 * before
    quantizer = qf.quantizers.PACT(alpha=3.0, alpha_decay=0.5)
    model = model_of(quantizer, shape=(4,))
    np.testing.assert_allclose(float(sum(model.losses)), 0.5 * 3**2, rtol=1e-6)
    # Nothing is beyond 3, so the decay alone moves it, by 0.1 * 2 * 0.5 * 3.
    fit(model, x / 2, x / 2, 1, keras.optimizers.SGD(0.1))
    np.testing.assert_allclose(float(quantizer.bound), 2.7, rtol=1e-5)


def test_a_bound_below_zero_learns_its_way_back():
    quantizer = qf.quantizers.PACT(bits=4)
    model = model_of(quantizer, shape=(4,))
    quantizer.bound.assign(-0.3)
    x = np.full((8, 4), 2.0, "float32")
    assert np.abs(to_numpy(quantizer(x))).max() < 1e-6
    fit(model, x, x, 100)
    np.testing.assert_allclose(to_numpy(quantizer(x)), x, atol=0.2)


# Learned steps.


def with_step(quantizer, shape, step):
    """A quantizer for a shape, with a step that has started."""
    if not quantizer.built:
        quantizer.build(shape)
    quantizer.step.start.assign(np.broadcast_to(step, quantizer.step.start.shape))
    quantizer.step.started.assign(1.0)
    return quantizer


def lsq_gradients(x, upstream, step, low, high, axes, numbers):
    """Of the paper: for x, and for steps that so many numbers along `axes` share."""
    steps = x / step
    inside = (steps >= low) & (steps <= high)
    slope = np.where(inside, np.round(steps) - steps, np.clip(steps, low, high))
    scale = 1 / np.sqrt(numbers * high)
    return upstream * inside, scale * (upstream * slope).sum(axes, keepdims=True)


@pytest.mark.parametrize("mode", MODES)
def test_lsq_golden(mode):
    # 3 bits, a step of 0.5: from -2 to 1.5.
    quantizer = with_step(qf.quantizers.LSQ(bits=3), (8,), 0.5)
    x = np.float32([-9, -2, -0.7, 0, 0.3, 1.2, 1.5, 7])
    upstream = np.float32([1, 2, 4, 8, 16, 32, 64, 128])
    value, gradient = run(quantizer, x, upstream, mode)
    np.testing.assert_array_equal(value, [-2, -2, -0.5, 0, 0.5, 1, 1.5, 1.5])
    np.testing.assert_allclose(gradient, upstream * [0, 1, 1, 1, 1, 1, 1, 0])
    # x / s is -18, -4, -1.4, 0, 0.6, 2.4, 3, 14.
    slope = np.array([-4, 0, 0.4, 0, 0.4, -0.4, 0, 3])
    actual = state_gradients(quantizer, x, upstream, mode)["step"]
    np.testing.assert_allclose(actual, upstream @ slope / math.sqrt(8 * 3), rtol=1e-5)


CASES = {
    "weights": (qf.quantizers.LSQ, {"bits": 3}, False, (0, 1, 2), 60),
    "activations": (qf.quantizers.LSQ, {"bits": 2, "signed": False}, True, (0, 1, 2), 20),
    "channels": (qf.quantizers.LSQ, {"per_channel": True}, False, (0, 1), 12),
    "channels of activations": (qf.quantizers.LSQ, {"per_channel": True}, True, (0, 1), 4),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("mode", MODES)
def test_lsq_gradients_are_those_of_the_paper(case, mode):
    make, arguments, batched, axes, numbers = CASES[case]
    quantizer = make(**arguments)
    quantizer.batched = batched
    step = np.linspace(0.2, 0.6, 5, dtype="float32") if "channels" in case else 0.3
    with_step(quantizer, (None, None, 5) if batched else (3, 4, 5), step)
    x, upstream = normal((3, 4, 5)), normal((3, 4, 5), 1)
    low, high = quantizer.low, quantizer.high
    value, gradient = run(quantizer, x, upstream, mode)
    np.testing.assert_allclose(
        value, np.round(np.clip(x / step, low, high)) * step, rtol=1e-5, atol=1e-6
    )
    of_x, of_step = lsq_gradients(x, upstream, step, low, high, axes, numbers)
    np.testing.assert_allclose(gradient, of_x, rtol=1e-5, atol=1e-6)
    actual = state_gradients(quantizer, x, upstream, mode)["step"]
    np.testing.assert_allclose(actual.ravel(), of_step.ravel(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("batched", [False, True])
def test_lsq_starts_from_the_first_batch_of_training(batched):
    quantizer = qf.quantizers.LSQ(bits=4)
    quantizer.batched = batched
    first, second = normal((16, 3)), 10 * normal((16, 3), 1)

    def steps(x):
        return float(quantizer.affine(keras.ops.convert_to_tensor(x))[0])

    def start(x):
        return 2 * np.abs(x).mean() / math.sqrt(7)

    quantizer(first)
    # Before training the step is that of the current tensor.
    np.testing.assert_allclose(steps(second), start(second), rtol=1e-5)
    quantizer(first, training=True)
    quantizer(second, training=True)
    np.testing.assert_allclose(steps(second), start(first), rtol=1e-5)


def test_lsq_of_channels_in_layers():
    layers = {
        (3, 4): keras.layers.Dense(4),
        (3, 3, 2, 5): keras.layers.Conv2D(5, 3),
        (3, 3, 5, 2): keras.layers.Conv2DTranspose(5, 3),
        (3, 3, 2, 3): keras.layers.DepthwiseConv2D(3, depth_multiplier=3),
    }
    axes = {(3, 4): 0, (3, 3, 5, 2): (0, 1, 3), (3, 3, 2, 3): (0, 1)}
    for shape, layer in layers.items():
        given = (3,) if len(shape) == 2 else (6, 6, 2)
        model = model_of(layer, shape=given)
        prefixes = {"Dense": "kernel", "DepthwiseConv2D": "depthwise"}
        prefix = prefixes.get(type(layer).__name__, "kernel")
        qf.quantize(model, {f"{prefix}_quantizer": "lsq(per_channel=True)"})
        kernel = next(w for w in layer.weights if tuple(w.shape) == shape)
        mean = np.abs(to_numpy(kernel)).mean(axes.get(shape, (0, 1, 2)), keepdims=True)
        (actual,) = qf.integers(model).values()
        np.testing.assert_allclose(actual.scale, 2 * mean / math.sqrt(7), rtol=1e-5)
        assert actual.values.min() >= -8
        assert actual.values.max() <= 7
        assert actual.values.dtype == np.int8


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda: qf.quantizers.LSQ(per_channel=True).build((2, None)),
            "number is not known",
        ),
        (
            lambda: qf.quantize(
                model_of(keras.layers.Dense(2), shape=(3,)),
                {"bias_quantizer": "lsq(per_channel=True)"},
            ),
            "no axis of channels",
        ),
    ],
)
def test_channels_that_are_not_there(build, message):
    with pytest.raises(ArgumentError, match=message):
        build()


# Ranges from elsewhere.


def ranged(name, low, high, shape=(4,)):
    quantizer = qf.quantizers.get(name)
    quantizer.build(shape)
    quantizer.set_range(low, high)
    return quantizer


@pytest.mark.parametrize(
    ("name", "low", "high", "x", "expected"),
    [
        # Steps of max(2 / 4, 6 / 3).
        ("lsq(bits=3)", -2, 6, [-9, -2, 0.9, 1.1, 9], [-8, -2, 0, 2, 6]),
        # Steps of max(6 / 4, 3 / 3).
        ("lsq(bits=3)", -6, 3, [-9, 0.7, 0.8, 9], [-6, 0, 1.5, 4.5]),
        # All above 0: the grid has 0 all the same.
        ("lsq(bits=3)", 1, 6, [0.9, 9], [0, 6]),
        ("lsq(bits=2, signed=False)", -5, 6, [-1, 0.9, 3.1, 9], [0, 0, 4, 6]),
        ("lsq_plus(bits=2)", -1, 5, [-9, -1, 0.1, 2.9, 9], [-1, -1, 1, 3, 5]),
        ("lsq_plus(bits=2, signed=True)", -1, 5, [-9, -1, 0.1, 9], [-1, -1, 1, 5]),
        ("pact(bits=2)", -7, 6, [-1, 0.9, 1.1, 7], [0, 0, 2, 6]),
    ],
)
def test_a_range_from_elsewhere(name, low, high, x, expected):
    x, expected = np.float32(x), np.float32(expected)
    quantizer = ranged(name, low, high)
    np.testing.assert_allclose(to_numpy(quantizer(x)), expected, rtol=1e-6)
    # It has started: training goes on from there.
    quantizer(3 * x, training=True)
    np.testing.assert_allclose(to_numpy(quantizer(x)), expected, rtol=1e-6)
    first, last, steps = quantizer.grid_of_range(low, high)
    grid = np.linspace(first, last, steps + 1)
    np.testing.assert_allclose(to_numpy(quantizer(grid.astype("float32"))), grid, atol=1e-6)
    assert steps == 2**quantizer.bits - 1


def test_a_range_takes_the_place_of_what_was_learned():
    for name in ("lsq", "lsq_plus", "pact"):
        quantizer = qf.quantizers.get(name)
        model = model_of(quantizer, shape=(4,))
        x = np.abs(normal((16, 4)))
        fit(model, x, 3 * x, 5)
        quantizer.set_range(0.0, 1.5)
        fresh = ranged(name, 0.0, 1.5)
        np.testing.assert_allclose(to_numpy(quantizer(x)), to_numpy(fresh(x)), rtol=1e-6)


def test_ranges_of_channels():
    quantizer = ranged(
        "lsq(bits=2, per_channel=True)", [[-2, 0, -1]], [[1, 0, 5]], (None, 3)
    )
    assert quantizer.range_shape() == (1, 3)
    # The channel of zeros takes the largest step.
    actual = to_numpy(quantizer(np.float32([[-9, -9, -9], [9, 9, 9]])))
    np.testing.assert_allclose(actual, [[-2, -10, -10], [1, 5, 5]])


@given(
    ends=st.tuples(st.floats(-50, 50), st.floats(0.01, 50)),
    name=st.sampled_from(["lsq(bits=3)", "lsq_plus(bits=3)", "lsq(bits=5)"]),
)
@settings(max_examples=20)
def test_a_grid_reaches_both_ends_of_its_range(ends, name):
    low, high = ends[0], ends[0] + ends[1]
    quantizer = ranged(name, low, high)
    first, last, steps = quantizer.grid_of_range(low, high)
    x = np.linspace(low, high, 201, dtype="float32")
    error = np.abs(to_numpy(quantizer(x)) - x).max()
    assert error <= (last - first) / steps * 0.501 + 1e-5


@pytest.mark.parametrize(
    ("name", "low", "high", "message"),
    [
        ("lsq(signed=False)", -2, 0, "without positive numbers. Write signed=True"),
        ("lsq", 0, 0, "without positive numbers"),
        ("lsq_plus", 3, 3, "for the one number 3.0"),
        ("pact", -2, 0, "no bound for a range without positive"),
        ("pact", 1, np.nan, "found 1.0 to nan"),
        ("lsq", 1, 0, "found 1.0 to 0.0"),
        ("lsq", [0, 1], 3, r"shape \(\), found \(2,\)"),
    ],
)
def test_ranges_that_do_not_fit(name, low, high, message):
    quantizer = ranged(name, -1, 1)
    before = [to_numpy(variable) for variable in quantizer.variables]
    with pytest.raises(ArgumentError, match=message):
        quantizer.set_range(low, high)
    for variable, was in zip(quantizer.variables, before, strict=True):
        np.testing.assert_array_equal(to_numpy(variable), was)
    with pytest.raises(ArgumentError, match="not built"):
        qf.quantizers.get(name).set_range(0, 1)


@pytest.mark.parametrize(
    "name", ["lsq(bits=3)", "lsq_plus(bits=3)", "lsq(per_channel=True)"]
)
def test_a_step_learns_and_is_saved(name, tmp_path):
    x = np.linspace(0.5, 4, 64, dtype="float32").reshape(16, 4)
    quantizer = qf.quantizers.get(name)
    model = model_of(quantizer, shape=(4,))
    # Started at a hundredth of what comes later.
    fit(model, x / 100, x / 100)
    before, after = fit(model, x, x, 150)
    assert after < 0.05 * before
    again = reloaded(model, tmp_path)
    np.testing.assert_array_equal(again.predict(x, verbose=0), model.predict(x, verbose=0))
    state = [to_numpy(v) for v in again.layers[-1].variables]
    for actual, variable in zip(state, quantizer.variables, strict=True):
        np.testing.assert_array_equal(actual, to_numpy(variable))


def test_a_step_below_zero_learns_its_way_back():
    quantizer = qf.quantizers.LSQ(bits=4)
    model = model_of(quantizer, shape=(4,))
    with_step(quantizer, (None, 4), -0.5)
    x = np.full((8, 4), 2.0, "float32")
    assert np.abs(to_numpy(quantizer(x))).max() < 1e-6
    fit(model, x, x, 100)
    np.testing.assert_allclose(to_numpy(quantizer(x)), x, atol=0.2)


@pytest.mark.parametrize("name", ["lsq", "lsq(bits=2)", "lsq_plus"])
def test_a_bias_that_starts_at_zero_learns(name):
    dense = qf.layers.QuantDense(2, kernel_initializer="zeros", bias_quantizer=name)
    model = model_of(dense, shape=(3,))
    target = np.tile(np.float32([1, -1]), (8, 1))
    before, after = fit(model, np.zeros((8, 3), "float32"), target, 80)
    assert after < 0.1 * before


def test_infinity_leaves_the_gradients_finite():
    x = np.float32([np.inf, -np.inf, 1.0, 1e30])
    for name in ("lsq", "lsq_plus", "pact"):
        quantizer = qf.quantizers.get(name)
        quantizer.build((4,))
        quantizer(np.float32([1, -1, 2, 0]), training=True)
        value, gradient = run(quantizer, x)
        assert np.isfinite(value).all()
        assert np.isfinite(gradient).all()
        for actual in state_gradients(quantizer, x, np.ones_like(x)).values():
            assert np.isfinite(actual).all()


def test_an_empty_batch_leaves_the_start_finite():
    for name in ("lsq", "lsq_plus"):
        quantizer = qf.quantizers.get(name)
        quantizer.batched = True
        quantizer.build((None, 3))
        quantizer(np.zeros((0, 3), "float32"), training=True)
        assert np.isfinite(to_numpy(quantizer(normal((2, 3))))).all()


@pytest.mark.parametrize("eager", [True, False])
def test_sizes_that_are_not_known_count_when_they_are(eager):
    if eager and keras.backend.backend() == "jax":
        pytest.skip(reason="JAX knows all sizes when it compiles")
    x = normal((2, 5, 3))
    layer = qf.layers.QuantConv1D(2, 1, input_quantizer="lsq(bits=2)", use_bias=False)
    model = model_of(layer, shape=(None, 3))
    layer.set_weights([np.ones((1, 3, 2)), *layer.get_weights()[1:]])
    fit(
        model,
        x,
        np.zeros((2, 5, 2)),
        optimizer=keras.optimizers.SGD(1.0),
        run_eagerly=eager,
    )
    step = 2 * np.abs(x).mean()
    value = np.round(np.clip(x / step, -2, 1)) * step
    # Of the mean of (sum over 3 channels)^2, twice: both filters are ones.
    upstream = np.repeat(2 * 2 * value.sum(-1, keepdims=True) / 20, 3, -1)
    _, expected = lsq_gradients(x, upstream, step, -2, 1, (0, 1, 2), 15)
    actual = to_numpy(layer.input_quantizer.step.change)
    np.testing.assert_allclose(-actual, expected.ravel()[0], rtol=1e-4)


@pytest.mark.parametrize("mode", MODES)
def test_lsq_plus_golden(mode):
    # From -1 to 2 in steps of 1 with 2 bits.
    quantizer = qf.quantizers.LSQPlus(bits=2)
    quantizer.build((4,))
    quantizer(np.float32([-1, 0.3, 1, 2]), training=True)
    x = np.float32([-3, -0.8, 1.4, 5])
    upstream = np.float32([1, 2, 4, 8])
    value, gradient = run(quantizer, x, upstream, mode)
    np.testing.assert_allclose(value, [-1, -1, 1, 2], rtol=1e-6)
    np.testing.assert_allclose(gradient, [0, 2, 4, 0], rtol=1e-6)
    actual = state_gradients(quantizer, x, upstream, mode)
    # (x + 1) / 1 is -2, 0.2, 2.4, 6; n = 4 numbers, h = 3.
    scale = 1 / math.sqrt(4 * 3)
    expected = scale * (0 - 2 * 0.2 - 4 * 0.4 + 8 * 3)
    np.testing.assert_allclose(actual["step"], expected, rtol=1e-5)
    np.testing.assert_allclose(actual["offset"], scale * (1 + 8), rtol=1e-5)


def test_lsq_plus_has_no_integers():
    dense = qf.layers.QuantDense(2, kernel_quantizer="lsq_plus")
    with pytest.raises(QFrameError, match="no scale and zero point"):
        qf.integers(model_of(dense, shape=(3,)))


def test_state_is_kept_and_used_in_float32_under_mixed_precision():
    dense = qf.layers.QuantDense(
        1, use_bias=False, kernel_quantizer="lsq(bits=16)", dtype="mixed_float16"
    )
    model = model_of(dense, shape=(1,))
    quantizer = dense.kernel_quantizer
    for variable in quantizer.variables:
        assert variable.dtype == "float32"
    # 2049 steps of 0.99 are not 2049 steps of the float16 that is nearest to it.
    quantizer.step.start.assign(0.99)
    quantizer.step.started.assign(1.0)
    dense.kernel.assign([[2049 * 0.99]])
    actual = to_numpy(model(np.ones((1, 1), "float32")))
    np.testing.assert_array_equal(actual, np.float16([[2049 * 0.99]]))


# XNOR-Net.


@pytest.mark.parametrize("mode", MODES)
def test_xnor_sign_golden(mode):
    x = np.array([[1.0, -4.0, 0.0], [-3.0, 0.5, -0.0]], "float32")
    value, gradient = run(qf.quantizers.get("xnor_sign"), x, mode=mode)
    np.testing.assert_array_equal(value, [[2, -2.25, 0], [-2, 2.25, 0]])
    # 1 / 2, and the mean where the magnitude is 1 at most.
    expected = [[2.5, 0.5, 0.5], [0.5, 2.75, 0.5]]
    np.testing.assert_array_equal(gradient, expected)


def test_xnor_sign_counts_the_weights_of_a_channel():
    kernel = normal((3, 3, 4, 2)) * 0.3
    quantizer = qf.quantizers.XnorSign(clip_value=0.5)
    for axis, axes, count in ((-1, (0, 1, 2), 36), (2, (0, 1, 3), 18), ((2, 3), (0, 1), 9)):

        def on_axis(x, axis=axis):
            return quantizer(x, channel_axis=axis)

        value, gradient = run(on_axis, kernel)
        mean = np.abs(kernel).mean(axes, keepdims=True)
        np.testing.assert_allclose(value, mean * np.sign(kernel), rtol=1e-5)
        expected = 1 / count + mean * (np.abs(kernel) <= 0.5)
        np.testing.assert_allclose(gradient, expected, rtol=1e-5)


def test_xnor_sign_integers():
    conv = keras.layers.Conv2D(4, 3, use_bias=False)
    model = model_of(conv, shape=(6, 6, 2))
    qf.quantize(model, {"kernel_quantizer": "xnor_sign"})
    kernel = to_numpy(conv.kernel)
    (actual,) = qf.integers(model).values()
    np.testing.assert_array_equal(actual.values, np.sign(kernel))
    mean = np.abs(kernel).mean((0, 1, 2), keepdims=True)
    np.testing.assert_allclose(actual.scale, mean, rtol=1e-5)


# Half-wave Gaussian quantization.


@pytest.mark.parametrize("mode", MODES)
def test_hwgq_golden(mode):
    d = 0.538811923400
    x = np.float32([-1, 0, 1e-40, 0.01, 0.8, 0.82, 1.34, 1.36, 1.6, 1.7, np.inf])
    value, gradient = run(qf.quantizers.get("hwgq"), x, mode=mode)
    steps = np.array([0, 0, 0, 1, 1, 2, 2, 3, 3, 3, 3])
    np.testing.assert_allclose(value, steps * d, rtol=1e-6)
    np.testing.assert_array_equal(gradient, [0, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0])


def best_step(bits):
    """The step that is the best one for its own intervals, by the secant method."""
    k = np.arange(1, 2**bits)

    def excess(step):
        ends = np.concatenate([[0], (k[:-1] + 0.5) * step, [np.inf]])
        density = np.exp(-(ends**2) / 2) / math.sqrt(2 * math.pi)
        beyond = np.array([math.erfc(end / math.sqrt(2)) / 2 for end in ends])
        mass, mean = -np.diff(beyond), -np.diff(density)
        return (k * mean).sum() / (k**2 * mass).sum() - step

    low, high = 3.8 / 2**bits, 4.2 / 2**bits
    while abs(high - low) > 1e-13:
        slope = (excess(high) - excess(low)) / (high - low)
        low, high = high, high - excess(high) / slope
    return high


@pytest.mark.parametrize("bits", range(1, 9))
def test_the_steps_are_the_best_ones(bits):
    quantizer = qf.quantizers.HWGQ(bits)
    np.testing.assert_allclose(quantizer.step, best_step(bits), rtol=1e-8)
    # The quantizer itself errs least with it, over a fine grid of the density.
    x = np.linspace(1e-4, 8, 40001)
    density = np.exp(-(x**2) / 2)

    def error(scale):
        value = to_numpy(quantizer((x / scale).astype("float32"))) * scale
        return ((value - x) ** 2 * density).sum()

    assert error(1.0) < min(error(0.98), error(1.02))


def test_the_steps_are_those_of_the_paper():
    # Two bits: the paper. One: the mean of the half-wave, the root of 2 / pi.
    assert abs(qf.quantizers.HWGQ(2).step - 0.538) < 1e-3
    assert abs(qf.quantizers.HWGQ(1).step - math.sqrt(2 / math.pi)) < 1e-9


# Arguments and names.


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: qf.quantizers.DoReFa(0), "k_bit of DoReFa.*from 1 to 16, found 0"),
        (lambda: qf.quantizers.DoReFa(17), "found 17"),
        (lambda: qf.quantizers.DoReFa(2.0), "found 2.0"),
        (lambda: qf.quantizers.DoReFa(2, "weight"), "Did you mean 'weights'"),
        (lambda: qf.quantizers.PACT(alpha=0), "alpha of PACT.*found 0"),
        (lambda: qf.quantizers.PACT(alpha=math.inf), "finite"),
        (lambda: qf.quantizers.PACT(alpha_decay=-1), "alpha_decay of PACT.*found -1"),
        (lambda: qf.quantizers.LSQ(bits=1), "bits of LSQ.*from 2 to 16, found 1"),
        (lambda: qf.quantizers.LSQ(signed=None), "True or False, found None"),
        (lambda: qf.quantizers.LSQ(per_channel=0), "True or False, found 0"),
        (lambda: qf.quantizers.LSQPlus(bits=True), "found True"),
        (lambda: qf.quantizers.XnorSign(clip_value=-1), "found -1"),
        (lambda: qf.quantizers.HWGQ(9), "from 1 to 8, found 9"),
    ],
)
def test_wrong_arguments(make, message):
    with pytest.raises(ArgumentError, match=message):
        make()


def test_names_of_larq():
    for name in ("DoReFa", "DoReFaQuantizer", "dorefa_quantizer", "dorefa"):
        actual = qf.quantizers.get(name)
        assert type(actual).__name__ == "DoReFa"
        assert actual.parameters == {"k_bit": 2, "mode": "activations"}
        assert actual.precision == 2
    config = {"k_bit": 4, "mode": "weights"}
    actual = qf.quantizers.get({"class_name": "DoReFa", "config": config})
    assert actual.parameters == config


@pytest.mark.parametrize(
    ("name", "bits"),
    [
        ("pact(bits=3)", 3),
        ("lsq", 4),
        ("lsq_plus(bits=5)", 5),
        ("xnor_sign", 1),
        ("dorefa_sign", 1),
        ("hwgq", 2),
    ],
)
def test_precision_is_what_the_summary_reads(name, bits):
    assert qf.quantizers.get(name).precision == bits
