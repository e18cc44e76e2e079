"""The quantizers of three levels: golden numbers by hand, and formulas in NumPy."""

import keras
import numpy as np
import pytest

import qframe as qf
from fitting import WITHOUT_XLA
from qframe.errors import ArgumentError, QFrameError
from qframe.quantizers.differentiation import MODES, to_numpy, value_and_gradient
from state_gradients import state_gradients

X = np.array([-2, -1, -0.5, -0.05, -0.01, -0.0, 0, 0.01, 0.05, 0.5, 1, 2], "float32")


def normal(shape, seed=0, dtype="float32"):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


# Fixed levels.


@pytest.mark.parametrize(
    ("name", "value", "gradient"),
    [
        # A number that equals the threshold is beyond it, as Larq computes it.
        ("ste_tern", [-1, -1, -1, -1, 0, 0, 0, 0, 1, 1, 1, 1], [0] + [1] * 10 + [0]),
        (
            "ste_tern(threshold_value=0.5, clip_value=0.5)",
            [-1, -1, -1, 0, 0, 0, 0, 0, 0, 1, 1, 1],
            [0, 0] + [1] * 8 + [0, 0],
        ),
        (
            "ste_tern(threshold_value=0, clip_value=None)",
            [-1, -1, -1, -1, -1, 0, 0, 1, 1, 1, 1, 1],
            [1] * 12,
        ),
        # 0.7 times the mean of 7.12 / 12 is 0.4153.
        (
            "ste_tern(ternary_weight_networks=True)",
            [-1, -1, -1, 0, 0, 0, 0, 0, 0, 1, 1, 1],
            [0] + [1] * 10 + [0],
        ),
    ],
)
@pytest.mark.parametrize("mode", MODES)
def test_ste_tern_golden(name, value, gradient, mode):
    actual = value_and_gradient(qf.quantizers.get(name), X, np.ones_like(X), mode)
    np.testing.assert_array_equal(actual, np.float32([value, gradient]))


def larq_tern(x, threshold):
    return np.sign(np.sign(x + threshold) + np.sign(x - threshold))


@pytest.mark.parametrize("networks", [False, True])
@pytest.mark.parametrize("shape", [(7,), (3, 5), (3, 3, 2, 4)])
def test_ste_tern_is_larqs(shape, networks):
    x = normal(shape)
    threshold = 0.7 * np.abs(x).sum() / x.size if networks else 0.3
    actual = qf.quantizers.SteTern(0.3, networks, 1.0)(x)
    np.testing.assert_array_equal(to_numpy(actual), larq_tern(x, threshold))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_a_threshold_is_compared_in_the_dtype_of_the_input(dtype):
    x = keras.ops.cast(keras.ops.convert_to_tensor([0.05, -0.05, 0.049, 0.0]), dtype)
    actual = qf.quantizers.SteTern()(x)
    assert actual.dtype == x.dtype
    np.testing.assert_array_equal(to_numpy(actual), [1, -1, 0, 0])


def test_the_mean_of_many_float16_does_not_overflow():
    x = keras.ops.cast(normal((400, 400)) * 100 + 200, "float16")
    actual = to_numpy(qf.quantizers.SteTern(ternary_weight_networks=True)(x))
    x = to_numpy(x).astype("float64")
    threshold = np.float16(0.7 * np.abs(x).mean())
    np.testing.assert_array_equal(actual, larq_tern(x, np.float64(threshold)))
    assert 0.5 < (actual == 1).mean() < 0.9


def test_subnormals_count_as_zero():
    x = np.full(9, 1e-40, "float32")
    for name in ("ste_tern(threshold_value=0)", "ste_tern(ternary_weight_networks=True)"):
        for sign in (1, -1):
            actual = qf.quantizers.get(name)(sign * x)
            np.testing.assert_array_equal(to_numpy(actual), np.zeros(9))


def test_nan_stays_nan():
    for name in ("ste_tern", "ste_tern(ternary_weight_networks=True)", "trained_ternary"):
        actual = to_numpy(qf.quantizers.get(name)(np.float32([np.nan, 1.0])))
        assert np.isnan(actual[0])


def test_ste_tern_integers():
    dense = qf.layers.QuantDense(
        2, kernel_quantizer="ste_tern(threshold_value=0.5)", kernel_constraint="weight_clip"
    )
    model = keras.Sequential([keras.Input((3,)), dense])
    kernel = np.float32([[0.6, -0.6], [0.4, -0.4], [0.0, 1.0]])
    dense.set_weights([kernel, np.zeros(2)])
    actual = qf.integers(model)[f"{dense.name}/kernel"]
    assert actual.values.tolist() == [[1, -1], [0, 0], [0, 1]]
    assert float(actual.scale) == 1.0
    assert actual.precision == 2


# Learned levels.

# The threshold is 1; beyond it are 2 and 4, and -3.
Y = np.array([[2.0, -3.0, 1.0], [4.0, -1.0, 0.0]], "float32")
UPSTREAM = np.array([[1.0, 10.0, 100.0], [2.0, 20.0, 200.0]], "float32")


def trained(x, threshold=0.25):
    """One that has seen a batch of training."""
    quantizer = qf.quantizers.TrainedTernary(threshold)
    quantizer.build(x.shape)
    quantizer(x, training=True)
    return quantizer


@pytest.mark.parametrize("mode", MODES)
def test_trained_ternary_golden(mode):
    quantizer = trained(Y)
    value, gradient = value_and_gradient(quantizer, Y, UPSTREAM, mode)
    np.testing.assert_array_equal(value, [[3, -3, 0], [3, 0, 0]])
    np.testing.assert_array_equal(gradient, UPSTREAM * [[3, 3, 1], [3, 1, 1]])
    actual = state_gradients(quantizer, Y, UPSTREAM, mode)
    assert {name: float(g) for name, g in actual.items()} == {
        "positive": 3,
        "negative": -10,
    }


def test_scales_start_from_the_first_batch_of_training():
    quantizer = qf.quantizers.TrainedTernary(0.25)
    before = to_numpy(quantizer(2 * Y))
    np.testing.assert_array_equal(before, [[6, -6, 0], [6, 0, 0]])
    quantizer(Y, training=True)
    quantizer(10 * Y, training=True)
    np.testing.assert_array_equal(to_numpy(quantizer(2 * Y)), before / 2)


@pytest.mark.parametrize(
    ("x", "value"),
    [
        ([0.0, 0.0, 0.0], [0, 0, 0]),
        # No negative number is beyond the threshold, so that these have no scale.
        ([4.0, 2.0, -0.5], [3, 3, 0]),
        ([-4.0, -2.0, 0.5], [-3, -3, 0]),
    ],
)
def test_a_side_without_numbers(x, value):
    x = np.float32(x)
    quantizer = trained(x)
    actual, gradient = value_and_gradient(quantizer, x, np.ones_like(x))
    np.testing.assert_array_equal(actual, value)
    assert np.isfinite(gradient).all()
    # Both sides have the same scale.
    np.testing.assert_array_equal(to_numpy(quantizer(-x)), -actual)


@pytest.mark.parametrize("scale", [-2.0, 0.0])
def test_a_scale_beyond_zero_keeps_its_formulas(scale):
    quantizer = trained(Y)
    quantizer.positive.change.assign(scale - 3.0)
    value, gradient = value_and_gradient(quantizer, Y, UPSTREAM)
    np.testing.assert_array_equal(value, [[scale, -3, 0], [scale, 0, 0]])
    np.testing.assert_array_equal(gradient, UPSTREAM * [[scale, 3, 1], [scale, 1, 1]])
    # It still learns.
    assert float(state_gradients(quantizer, Y, UPSTREAM)["positive"]) == 3


def fit(model, x, y, steps):
    """Train on one batch, so many times."""
    model.compile(keras.optimizers.Adam(0.05), "mse", **WITHOUT_XLA)
    again = [np.concatenate([array] * steps) for array in (x, y)]
    model.fit(*again, batch_size=len(x), shuffle=False, verbose=0)


def test_scales_learn():
    quantizer = qf.quantizers.TrainedTernary(0.25)
    model = keras.Sequential([keras.Input((3,)), quantizer])
    target = np.float32([[5, -2, 1], [5, -1, 0]])
    fit(model, Y, target, 150)
    np.testing.assert_allclose(to_numpy(quantizer(Y))[0][:2], [5, -2], atol=0.05)


def test_a_tensor_of_zeros_learns():
    dense = qf.layers.QuantDense(
        2, kernel_initializer="zeros", kernel_quantizer="trained_ternary", use_bias=False
    )
    model = keras.Sequential([keras.Input((2,)), dense])
    target = np.float32([[1, -1], [-1, 1]])
    fit(model, np.eye(2, dtype="float32"), target, 60)
    actual = model.predict(np.eye(2, dtype="float32"), verbose=0)
    np.testing.assert_allclose(actual, target, atol=0.3)


def test_trained_ternary_is_saved_with_what_it_learned(tmp_path):
    dense = qf.layers.QuantDense(3, kernel_quantizer="trained_ternary")
    model = keras.Sequential([keras.Input((4,)), dense])
    x = normal((8, 4))
    fit(model, x, normal((8, 3), 1), 3)
    assert float(dense.kernel_quantizer.positive.change) != 0
    model.save(tmp_path / "model.keras")
    again = qf.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(again.predict(x, verbose=0), model.predict(x, verbose=0))
    with pytest.raises(QFrameError, match="no scale and zero point"):
        qf.integers(model)


def test_trained_ternary_after_quantize():
    dense = keras.layers.Dense(3, use_bias=False)
    model = keras.Sequential([keras.Input((4,)), dense])
    qf.quantize(model, {"kernel_quantizer": "trained_ternary(threshold=0.25)"})
    kernel = keras.ops.convert_to_numpy(dense.kernel)
    actual = model.predict(np.eye(4, dtype="float32"), verbose=0)
    edge = np.abs(kernel).max() / 4
    for side, sign in ((kernel > edge, 1), (kernel < -edge, -1)):
        expected = sign * np.abs(kernel[side]).mean()
        np.testing.assert_allclose(actual[side], expected, rtol=1e-5)
    assert not actual[np.abs(kernel) <= edge].any()


# Arguments and names.


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: qf.quantizers.SteTern(-0.1), "threshold_value of SteTern.*found -0.1"),
        (lambda: qf.quantizers.SteTern(False), "found False"),
        (lambda: qf.quantizers.SteTern("0.1"), "found '0.1'"),
        (lambda: qf.quantizers.SteTern(clip_value=0), "clip_value.*found 0"),
        (
            lambda: qf.quantizers.SteTern(ternary_weight_networks=1),
            "True or False, found 1",
        ),
        (lambda: qf.quantizers.TrainedTernary(1.0), "below 1, found 1.0"),
        (lambda: qf.quantizers.TrainedTernary(float("nan")), "found nan"),
    ],
)
def test_wrong_arguments(make, message):
    with pytest.raises(ArgumentError, match=message):
        make()


def test_names_of_larq():
    config = {"threshold_value": 0.1, "ternary_weight_networks": True, "clip_value": 2.0}
    actual = qf.quantizers.get({"class_name": "SteTern", "config": config})
    assert actual.parameters == config
    assert qf.quantizers.ste_tern.parameters == {
        "threshold_value": 0.05,
        "ternary_weight_networks": False,
        "clip_value": 1.0,
    }
    assert qf.quantizers.get("SteTern").precision == 2
