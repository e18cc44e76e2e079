"""QKeras's quantizers: golden numbers by hand, draws, and formulas in NumPy.

tests/peers/test_qkeras.py compares them with QKeras itself.
"""

import functools
import math

import keras
import numpy as np
import pytest

import qframe as qf
from fitting import WITHOUT_XLA
from qframe.errors import ArgumentError, IdentifierError, QFrameError
from qframe.quantizers.differentiation import MODES, to_numpy, to_tensor, value_and_gradient

pytestmark = pytest.mark.ends

NAMES = [
    "quantized_bits",
    "quantized_relu",
    "quantized_tanh",
    "quantized_sigmoid",
    "quantized_po2",
    "quantized_relu_po2",
    "fixed:binary",
    "fixed:ternary",
    "stochastic_binary",
    "stochastic_ternary",
    "bernoulli",
]


def get(name):
    return qf.quantizers.get(name)


def run(quantizer, x, mode="eager"):
    x = np.asarray(x, "float32")
    return value_and_gradient(quantizer, x, np.ones_like(x), mode)


def tanh_slope(x):
    return 1 - np.tanh(np.float32(x)) ** 2


# Golden numbers, by hand from the formulas in the documentation.

GOLDEN = [
    # Over 8 steps: -16, -7.5, -2.4, 0.5, 1.5, 2.4, 16; ties to the even one.
    (
        "quantized_bits(4,0,1)",
        [-2, -0.9375, -0.3, 0, 0.0625, 0.1875, 0.3, 2],
        [-0.875, -0.875, -0.25, 0, 0, 0.25, 0.25, 0.875],
        [1] * 8,
    ),
    # The step is 1/4.
    ("quantized_bits(4, 1)", [-3, -0.375, 0.125, 5], [-2, -0.5, 0, 1.75], [1] * 4),
    ("quantized_bits(3, 0, 0, False)", [-1, 0.1875, 2], [0, 0.25, 0.875], [1] * 3),
    ("quantized_bits(3, 0, 0, True, 2.0)", [-2, 0.3, 0.9], [-2, 0.5, 1.5], [1] * 3),
    # Its largest float32 neighbour of 24 bits.
    ("quantized_bits(24)", [-2, 2], [-1, 1 - 2.0**-23], [1] * 2),
    ("quantized_bits(1, 2)", [-3, -0.0, 0, 0.1], [-1, 1, 1, 1], [1] * 4),
    (
        "quantized_relu(3)",
        [-1, 0, 0.0625, 0.1875, 0.875, 0.9, 2],
        [0, 0, 0, 0.25, 0.875, 0.875, 0.875],
        [0, 0, 1, 1, 1, 0, 0],
    ),
    # Four steps of 1/4 above 0, one of them below.
    (
        "quantized_relu(3, 0, 0, 0.25)",
        [-9, -1, -0.4, 0, 0.3, 0.75, 0.8],
        [-0.25, -0.25, 0, 0, 0.25, 0.75, 0.75],
        [0.25, 0.25, 0.25, 0.25, 1, 1, 0],
    ),
    # Every other step, and the last one: 8 (x / 2 + 1/2) is 4.4, 4.5, 5, 5.6, 7.5, 8.
    (
        "quantized_relu(3, 0, 1)",
        [-1, 0.1, 0.125, 0.25, 0.4, 0.875, 1],
        [0, 0, 0, 0.25, 0.5, 0.875, 0.875],
        [0, 1, 1, 1, 1, 1, 0],
    ),
    (
        "quantized_relu(6, 3, 0, 0.0, False, 6.0, False)",
        [-1, 5.9, 6, 7, 9],
        [0, 5.875, 6, 6, 6],
        [0, 1, 1, 0, 0],
    ),
    ("quantized_relu(3, 0, 0, 0.0, False, None, False)", [9], [0.875], [1]),
    # Beyond 3.5 steps the value is clipped to 3.
    (
        "quantized_tanh(3)",
        [-2, -1, -0.9, 0.125, 0.375, 0.8, 0.875, 1],
        [-1, -1, -1, 0, 0.5, 0.75, 0.75, 0.75],
        [0, 1, 1, 1, 1, 1, 0, 0],
    ),
    (
        "quantized_tanh(3, False, True)",
        [-1, -0.875, -0.8, 0.375],
        [-0.75, -0.75, -0.75, 0.5],
        [0, 0, 1, 1],
    ),
    # tanh 1 is 0.76, 3.05 steps; tanh 2 is 0.96, 3.86 steps.
    (
        "quantized_tanh(3, False, False, True)",
        [-2, 1, 2],
        [-1, 0.75, 0.75],
        [tanh_slope(2), tanh_slope(1), 0],
    ),
    (
        "quantized_sigmoid(2)",
        [-2, -1, -0.75, -0.25, 0, 0.25, 0.5, 0.75, 2],
        [0, 0, 0, 0.5, 0.5, 0.5, 0.75, 0.75, 0.75],
        [0, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0, 0],
    ),
    ("quantized_sigmoid(2, True)", [-2, 0, 2], [0.25, 0.5, 0.75], [0, 0.5, 0]),
    # 1 / (1 + 1/e) is 0.73, 2.9 steps.
    (
        "quantized_sigmoid(2, False, True)",
        [0, 1],
        [0.5, 0.75],
        [0.25, math.e / (1 + math.e) ** 2],
    ),
    # Exponents from -4 to 3; the change is at the square root of 2.
    (
        "quantized_po2(4)",
        [-3, 0, 1e-3, 0.7, 0.71, 1.41, 1.42, 100],
        [-4, 0.0625, 0.0625, 0.5, 1, 1, 2, 8],
        [1] * 8,
    ),
    ("quantized_po2(4, 3.0)", [1.5, 2.9, 9], [2, 2, 2], [1] * 3),
    # Eight exponents, down from 0.
    ("quantized_po2(4, 1.0)", [1e-4, -9], [2.0**-7, -1], [1] * 2),
    # Even exponents from -8 to 4.
    (
        "quantized_po2(4, None, False, True)",
        [0, 0.49, 0.5, 1.9, 2, 100],
        [2.0**-8, 0.25, 1, 1, 4, 16],
        [1] * 6,
    ),
    (
        "quantized_po2(4, None, False, False, 'floor')",
        [0.124, 0.125, 1.99, -7.9],
        [0.0625, 0.125, 1, -4],
        [1] * 4,
    ),
    (
        "quantized_relu_po2(3)",
        [-9, 0, 0.1, 1.5, 9],
        [0.0625, 0.0625, 0.125, 2, 8],
        [0, 0, 1, 1, 1],
    ),
    (
        "quantized_relu_po2(3, 2.0, 0.25)",
        [-9, -1, 0, 0.1, 2, 3],
        [-2, -0.25, 0.0625, 0.125, 2, 2],
        [0.25, 0.25, 0.25, 1, 1, 0],
    ),
    ("fixed:binary", [-2, -0.0, 0, 0.5], [-1, 1, 1, 1], tanh_slope([-2, 0, 0, 0.5])),
    ("fixed:binary(True)", [-2, 0], [0, 1], tanh_slope([-2, 0])),
    ("fixed:binary(True, 0.5)", [-2, 0], [0, 0.5], [1, 1]),
    (
        "fixed:ternary",
        [-2, -0.33, -0.32, 0, 0.33],
        [-1, -1, 0, 0, 1],
        tanh_slope([-2, -0.33, -0.32, 0, 0.33]),
    ),
    ("fixed:ternary(2.0, 0.5)", [-0.5, 0.4, 9], [-2, 0, 2], [1] * 3),
    ("fixed:ternary(1.0, 0)", [-0.1, 0, 0.1], [-1, 0, 1], [1] * 3),
    ("stochastic_binary(2.0)", [-0.1, 0, 0.1], [-2, 2, 2], [1] * 3),
    ("stochastic_ternary(2.0, 0.5)", [-0.5, 0, 0.4], [-2, 0, 0], [1] * 3),
    ("bernoulli(0.5)", [-0.1, 0, 0.1], [0, 0.5, 0.5], [1] * 3),
]


@pytest.mark.parametrize(("name", "x", "value", "gradient"), GOLDEN)
def test_golden(name, x, value, gradient):
    actual = run(get(name), x)
    np.testing.assert_array_equal(actual[0], np.float32(value))
    np.testing.assert_allclose(actual[1], np.float32(gradient), rtol=1e-5)


# Two channels: the largest are 3 and 4.3; thirds of them 1 and 1.43.
W = np.float32([[-3, 4.3], [1.4, -1.4], [1.5, 1.6], [0.4, 0.4]])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        # Halves are rounded up.
        (
            "quantized_bits(bits=3, alpha='auto')",
            [[-3, 4.3], [1, -4.3 / 3], [2, 4.3 / 3], [0, 0]],
        ),
        # 1.43 is nearer to 2 than to 1; then 11.6 / 6 is.
        ("quantized_bits(bits=3, alpha='auto_po2')", [[-3, 4], [1, -2], [2, 2], [0, 0]]),
        (
            "quantized_bits(bits=3, alpha='auto_po2', max_po2_exponent=-1)",
            [[-1.5, 1.5], [1.5, -1.5], [1.5, 1.5], [0.5, 0.5]],
        ),
        # The mean magnitudes are 1.575 and 1.925.
        (
            "fixed:binary(alpha='auto')",
            [[-1.575, 1.925], [1.575, -1.925], [1.575, 1.925], [1.575, 1.925]],
        ),
        ("fixed:binary(alpha='auto_po2')", [[-2, 2], [2, -2], [2, 2], [2, 2]]),
        # Of the numbers from 0 on they are 1.1 and 2.1.
        (
            "fixed:binary(use_01=True, alpha='auto')",
            [[0, 2.1], [1.1, 0], [1.1, 2.1], [1.1, 2.1]],
        ),
        ("bernoulli(alpha='auto_po2')", [[0, 2], [1, 0], [1, 2], [1, 2]]),
        # Beyond 1 are 3, 1.4 and 1.5, with the mean 5.9 / 3; so is it beyond half of that.
        # Beyond 1.43 are 4.3 and 1.6, with the mean 2.95; beyond 1.475 too.
        (
            "fixed:ternary(alpha='auto')",
            [[-5.9 / 3, 2.95], [5.9 / 3, 0], [5.9 / 3, 2.95], [0, 0]],
        ),
        # Two thirds of 4.3 are nearer to 4 than to 2.
        ("stochastic_ternary(alpha='auto_po2')", [[-2, 4], [2, 0], [2, 0], [0, 0]]),
    ],
)
def test_automatic_scales_golden(name, value):
    actual, gradient = run(get(name), W)
    np.testing.assert_allclose(actual, np.float32(value), rtol=1e-5)
    np.testing.assert_array_equal(gradient, np.ones_like(W))


@pytest.mark.parametrize("mode", MODES)
def test_automatic_scales_are_exact_powers_of_two(mode):
    x = np.random.default_rng(0).normal(size=(50, 40)).astype("float32")
    x = x * np.float32(10.0) ** np.linspace(-5, 5, 40, dtype="float32")
    actual, _ = run(get("fixed:binary(alpha='auto_po2')"), x, mode)
    nearest = np.rint(np.log2(np.abs(x).mean(axis=0) + 1e-7))
    np.testing.assert_array_equal(np.abs(actual), np.tile(2**nearest, (50, 1)))


@pytest.mark.parametrize("mode", MODES)
def test_powers_of_two_are_exact(mode):
    powers = np.float32(2.0) ** np.arange(-60, 60, dtype="float32")
    below = np.nextafter(powers, np.float32(0))
    floor = get("quantized_po2(log2_rounding='floor')")
    np.testing.assert_array_equal(run(floor, powers, mode)[0], powers)
    np.testing.assert_array_equal(run(floor, below, mode)[0], powers / 2)
    for x in (powers, below, powers * np.float32(1.4142)):
        np.testing.assert_array_equal(run(get("quantized_po2"), x, mode)[0], powers)
    actual = run(get("quantized_po2"), powers * np.float32(1.4143), mode)[0]
    np.testing.assert_array_equal(actual, 2 * powers)


@pytest.mark.parametrize("name", NAMES)
def test_large_numbers_and_nan(name):
    quantizer = get(name)
    x = np.float32([3e38, np.inf, -3e38, -np.inf, np.nan])
    actual = to_numpy(quantizer(x))
    low, high = quantizer.traits.range
    np.testing.assert_array_equal(actual, [high, high, low, low, np.nan])
    drawn = to_numpy(quantizer(x, training=True))
    np.testing.assert_array_equal(drawn, actual)


@pytest.mark.parametrize("name", ["quantized_po2", "quantized_relu_po2(8, None, 1)"])
def test_powers_of_two_stay_in_float16(name):
    x = keras.ops.cast(np.float32([65504, -65504, 0.3, 0]), "float16")
    actual = get(name)(x)
    np.testing.assert_array_equal(to_numpy(actual), [32768, -32768, 0.25, 2.0**-24])
    wide = keras.ops.cast(x, "bfloat16")
    np.testing.assert_array_equal(to_numpy(get(name)(wide))[:2], [65536, -65536])


# Names, arguments, files, integers.


def test_arguments_by_order_are_those_of_qkeras():
    actual = get("quantized_bits(4,0,1)")
    assert repr(actual) == "fixed:quantized_bits(bits=4, symmetric=True)"
    assert get("quantized_relu(6,2)").parameters["integer"] == 2
    assert get("quantized_tanh(4, 0, 1)").symmetric is True
    assert get("quantized_sigmoid(4, 1)").symmetric is True
    assert get("quantized_po2(4, 2)").max_value == 2.0
    assert get("quantized_relu_po2(4, 2, 0.5)").negative_slope == 0.5
    assert get("fixed:ternary(None, 0.5)").threshold == 0.5
    assert get("stochastic_binary('auto', 3.0)").temperature == 3.0
    assert type(get("QuantizedBits")) is type(get("fixed:quantized_bits"))
    with pytest.raises(ArgumentError, match="at most 5 arguments"):
        get("quantized_tanh(4, 0, 0, 0, None, 1)")
    with pytest.raises(IdentifierError, match="write key=value for all"):
        get("quantized_bits(4, alpha='auto')")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("quantized_bits(0)", "integer from 1 to 24, found 0"),
        ("quantized_bits(25)", "found 25"),
        ("quantized_bits(4.0)", "found 4.0"),
        ("quantized_bits(True)", "found True"),
        ("quantized_bits(4, 0.5)", "integer of QuantizedBits.*found 0.5"),
        ("quantized_bits(4, 0, 2)", "symmetric.*True or False, found 2"),
        ("quantized_bits(alpha='automatic')", "'auto' or 'auto_po2', found 'automatic'"),
        ("quantized_bits(alpha=0)", "alpha.*found 0"),
        ("quantized_bits(alpha=1e999)", "alpha.*found inf"),
        ("quantized_bits(alpha=True)", "alpha.*found True"),
        ("quantized_bits(bits=1, alpha='auto')", "needs a sign and two bits"),
        ("quantized_bits(keep_negative=False, alpha='auto')", "needs a sign"),
        ("quantized_bits(bits=1, use_stochastic_rounding=1)", "stochastic_binary"),
        ("quantized_bits(min_po2_exponent=1)", "needs alpha='auto_po2'"),
        (
            "quantized_bits(alpha='auto_po2', min_po2_exponent=2, max_po2_exponent=1)",
            "above max_po2_exponent, found 2 and 1",
        ),
        ("quantized_bits(qnoise_factor=0.5)", "qnoise_factor.*1.0, found 0.5"),
        ("quantized_bits(scale_axis=0)", "scale_axis.*output channels"),
        ("quantized_bits(elements_per_scale=2)", "elements_per_scale"),
        ("quantized_bits(post_training_scale=[1.0])", "post_training_scale"),
        ("quantized_bits(use_ste=False)", "use_ste"),
        ("quantized_bits(use_variables=True)", "use_variables"),
        ("quantized_bits(var_name='v')", "var_name"),
        ("quantized_bits(seed=-1)", "seed.*found -1"),
        ("quantized_relu(negative_slope=0.3)", "power of two up to 1, found 0.3"),
        ("quantized_relu(bits=2, negative_slope=0.25)", "must be 0.5 or more"),
        ("quantized_relu(relu_upper_bound=6.0)", "is_quantized_clip=False"),
        ("quantized_relu(relu_upper_bound=0.3, is_quantized_clip=0)", "multiple"),
        ("quantized_relu(use_sigmoid=1, negative_slope=0.5)", "use_sigmoid"),
        ("quantized_relu(use_sigmoid=1, use_stochastic_rounding=1)", "use_sigmoid"),
        ("quantized_tanh(bits=1, symmetric=True)", "one symmetric value"),
        ("quantized_sigmoid(bits=1, symmetric=True)", "one symmetric value"),
        ("quantized_po2(1)", "integer from 2 to 8, found 1"),
        ("quantized_po2(9)", "found 9"),
        ("quantized_po2(4, 0)", "max_value.*found 0"),
        ("quantized_po2(4, 0.001)", "below the smallest power"),
        ("quantized_po2(log2_rounding='ceil')", "log2_rounding.*found 'ceil'"),
        ("quantized_po2(log2_rounding='floor', use_stochastic_rounding=1)", "floor"),
        ("quantized_relu_po2(negative_slope=2)", "found 2"),
        ("fixed:binary(training=True)", "Keras tells each call"),
        ("fixed:binary(scale_axis=1)", "scale_axis"),
        ("fixed:ternary(threshold=-0.1)", "threshold.*found -0.1"),
        ("fixed:ternary(alpha='auto', threshold=0.5)", "follows from the tensor"),
        ("fixed:ternary(use_stochastic_rounding=True)", "write|Write stochastic_ternary"),
        ("fixed:ternary(number_of_unrolls=0)", "number_of_unrolls.*found 0"),
        ("stochastic_ternary(temperature=0)", "temperature.*found 0"),
        ("bernoulli(temperature=1e999)", "must be finite, found inf"),
    ],
)
def test_wrong_arguments(name, message):
    with pytest.raises(ArgumentError, match=message):
        get(name)


SAVED = [
    "quantized_bits(bits=4, integer=1, alpha='auto_po2', min_po2_exponent=-3)",
    "quantized_bits(bits=4, use_stochastic_rounding=True, seed=3)",
    "quantized_po2(4, 2)",
    "fixed:binary(alpha='auto', use_stochastic_rounding=True)",
    "fixed:ternary(alpha='auto', number_of_unrolls=2)",
    "stochastic_ternary(threshold=0.25, use_real_sigmoid=False)",
    "bernoulli(temperature=3.0)",
]


@pytest.mark.filterwarnings("ignore::qframe.errors.StarvedWeightsWarning")
def test_saved_in_layers(tmp_path):
    layers = [
        qf.layers.QuantDense(
            4, kernel_quantizer=name, input_quantizer="quantized_relu(6,2)"
        )
        for name in SAVED
    ]
    model = keras.Sequential([keras.Input((4,)), *layers])
    x = np.random.default_rng(0).normal(size=(8, 4)).astype("float32")
    model.compile("sgd", "mse", **WITHOUT_XLA)
    model.fit(x, x, verbose=0)
    model.save(tmp_path / "model.keras")
    again = qf.load_model(tmp_path / "model.keras")
    for layer, other in zip(model.layers, again.layers, strict=True):
        assert layer.kernel_quantizer.parameters == other.kernel_quantizer.parameters
    np.testing.assert_array_equal(again.predict(x, verbose=0), model.predict(x, verbose=0))


def integers_of(name):
    dense = qf.layers.QuantDense(
        2, kernel_quantizer=name, kernel_constraint="weight_clip", use_bias=False
    )
    model = keras.Sequential([keras.Input((4,)), dense])
    dense.set_weights([W])
    return qf.integers(model)[f"{dense.name}/kernel"]


@pytest.mark.parametrize(
    ("name", "values", "scale", "precision"),
    [
        ("quantized_bits(4,1)", [[-8, 7], [6, -6], [6, 6], [2, 2]], 0.25, 4),
        ("quantized_bits(bits=1, alpha=2.0)", [[-1, 1], [1, -1], [1, 1], [1, 1]], 2, 1),
        (
            "quantized_bits(bits=3, integer=2, alpha='auto_po2')",
            [[-3, 2], [1, -1], [2, 1], [0, 0]],
            [[1, 2]],
            3,
        ),
        ("quantized_relu(3, 3)", [[0, 4], [1, 0], [2, 2], [0, 0]], 1, 3),
        ("quantized_po2(4)", [[-64, 64], [16, -16], [32, 32], [8, 8]], 2.0**-4, 4),
        ("fixed:binary(True, 3.0)", [[0, 1], [1, 0], [1, 1], [1, 1]], 3, 1),
        (
            "fixed:ternary('auto')",
            [[-1, 1], [1, 0], [1, 1], [0, 0]],
            [[5.9 / 3, 2.95]],
            2,
        ),
        ("bernoulli", [[0, 1], [1, 0], [1, 1], [1, 1]], 1, 1),
    ],
)
def test_integers(name, values, scale, precision):
    actual = integers_of(name)
    assert actual.values.tolist() == values
    np.testing.assert_allclose(actual.scale, np.float32(scale), rtol=1e-6)
    assert actual.precision == precision
    assert not actual.zero_point.any()


def test_powers_of_two_too_far_apart_are_no_integers():
    # From 2^-32 to 2^31 is one more than 64 bits hold; from 2^-32 to 1 they are few.
    with pytest.raises(QFrameError, match="states no integers"):
        integers_of("quantized_po2(7)")
    assert integers_of("quantized_po2(6)").values.dtype == np.int32
    actual = integers_of("quantized_po2(6, 1.0)")
    assert actual.values.tolist()[0] == [-(2**31), 2**31]
    assert actual.scale == np.float32(2.0**-31)


def test_precision_counts_the_sign():
    assert get("quantized_relu_po2(4)").precision == 4
    assert get("quantized_relu_po2(4, None, 0.5)").precision == 5
    assert get("quantized_bits(6)").precision == get("quantized_relu(6)").precision == 6
    assert [get(name).precision for name in NAMES[-5:]] == [1, 2, 1, 2, 1]


# Draws in training.

DRAWS = 10_000


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def channel(*numbers):
    """A channel of many numbers, some of which determine its scale."""
    return np.resize(np.float32(numbers), (DRAWS, 1))


def alone(x):
    return np.full((DRAWS, 1), x, "float32")


# Name, input, the input to look at, the mean of its draws, by hand.
DRAWN = [
    ("quantized_bits(4, 0, 1, True, None, True)", alone(0.3), 0.3, 0.3),
    ("quantized_bits(4, 0, 1, True, 0.5, True)", alone(-0.3), -0.3, -0.15),
    ("quantized_bits(4, 0, 0, True, None, True)", alone(0.95), 0.95, 0.875),
    ("quantized_bits(3, 0, 1, True, 'auto', True)", channel(3, 1.3), 1.3, 1.3),
    ("quantized_bits(3, 0, 1, True, 'auto_po2', True)", channel(3, -0.2), -0.2, -0.2),
    ("quantized_relu(3, 1, 0, 0.0, True)", alone(0.3), 0.3, 0.3),
    ("quantized_relu(4, 1, 0, 0.25, True)", alone(-0.4), -0.4, -0.1),
    ("quantized_tanh(4, True)", alone(0.3), 0.3, 0.3),
    ("quantized_tanh(4, True, False, True)", alone(0.3), 0.3, math.tanh(0.3)),
    ("quantized_sigmoid(3, False, True, True)", alone(0.3), 0.3, sigmoid(0.3)),
    ("quantized_po2(4, None, True)", alone(-1.3), -1.3, -1.3),
    ("quantized_po2(4, None, True, True)", alone(3), 3, 3),
    ("quantized_po2(4, None, True)", alone(0.01), 0.01, 0.0625),
    ("quantized_relu_po2(4, None, 0.25, True)", alone(-5), -5, -1.25),
    # The threshold is within 0.2 of 0 where the largest magnitude is 0.8.
    ("fixed:binary(False, 2.0, False, True)", channel(0.8, 0.05), 0.05, 0.5),
    ("fixed:binary(True, None, False, True)", channel(0.8, -0.1), -0.1, 0.25),
    ("fixed:binary(False, None, False, True)", alone(0), 0, 0),
    # The scale is 0.7; the threshold is from a third to two thirds of it.
    ("fixed:ternary('auto', None, True)", channel(1, 0.4), 0.4, 0.5),
    ("stochastic_binary", alone(0.1), 0.1, 2 * sigmoid(0.6) - 1),
    ("stochastic_binary(2.0, 1.0, False)", alone(0.1), 0.1, 0.2),
    # The standard deviation is 2, the scale 2 too.
    ("stochastic_binary('auto', 1.0)", channel(3, -1), -1, 2 * (2 * sigmoid(-0.5) - 1)),
    ("stochastic_ternary", alone(0.2), 0.2, sigmoid(8 * 0.53) - sigmoid(8 * 0.13)),
    ("stochastic_ternary(2.0, 0.5, 0.5, False)", alone(0.2), 0.2, 2 * 0.5 * 0.2),
    # The standard deviation is 0.3, the scale 0.7; the threshold is half of it.
    (
        "stochastic_ternary('auto', None, 1.0)",
        channel(1, 0.4),
        0.4,
        0.7 * (sigmoid(0.05 / 0.3) + sigmoid(0.75 / 0.3) - 1),
    ),
    ("bernoulli", alone(-0.1), -0.1, sigmoid(-0.6)),
    # The mean of the numbers from 0 on is 3.
    ("bernoulli('auto', 1.0)", channel(3, -1), -1, 3 * sigmoid(-0.5)),
]


@pytest.mark.parametrize(("name", "x", "at", "mean"), DRAWN, ids=[d[0] for d in DRAWN])
def test_draws_are_fair(name, x, at, mean):
    quantizer = type(get(name))(**{**get(name).parameters, "seed": 5})
    drawn = to_numpy(quantizer(to_tensor(x), training=True)).astype("float64")
    seen = drawn[x == np.float32(at)]
    assert len(seen) >= DRAWS / 2
    error = seen.std() / math.sqrt(len(seen))
    assert abs(seen.mean() - mean) <= 4 * error + 1e-5
    # Only values of the grid, and the next of them.
    assert len(np.unique(seen)) <= 3
    axis = (-1,) if quantizer.traits.channelwise else ()
    expected = quantizer.traits.expectation(x.astype("float64"), *axis)
    np.testing.assert_allclose(expected[x == np.float32(at)], mean, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", sorted({d[0] for d in DRAWN}))
def test_draws_come_from_the_seed_and_in_training_only(name):
    x = np.random.default_rng(0).normal(size=(200, 2)).astype("float32") * 0.3

    def seeded(seed):
        return type(get(name))(**{**get(name).parameters, "seed": seed})

    def draw(quantizer):
        return to_numpy(quantizer(to_tensor(x), training=True))

    one, same, other = seeded(1), seeded(1), seeded(2)
    first = draw(one)
    np.testing.assert_array_equal(draw(same), first)
    np.testing.assert_array_equal(draw(same), draw(one))
    assert (draw(other) != first).any()
    assert (draw(one) != first).any()
    quiet = to_numpy(one(to_tensor(x)))
    np.testing.assert_array_equal(to_numpy(other(to_tensor(x))), quiet)


def test_without_a_seed_two_quantizers_draw_differently():
    x = to_tensor(np.zeros((50, 2), "float32"))
    first, second = (to_numpy(get("bernoulli")(x, training=True)) for _ in range(2))
    assert (first != second).any()


def test_draws_in_a_layer_in_training_only():
    dense = qf.layers.QuantDense(
        8,
        use_bias=False,
        kernel_quantizer="stochastic_binary",
        kernel_constraint="weight_clip",
    )
    x = np.eye(8, dtype="float32")
    first, second = (to_numpy(dense(x, training=True)) for _ in range(2))
    assert (first != second).any()
    signs = np.where(keras.ops.convert_to_numpy(dense.kernel) >= 0, 1, -1)
    np.testing.assert_array_equal(to_numpy(dense(x)), signs)


@pytest.mark.skipif(keras.backend.backend() == "jax", reason="draws change the state")
@pytest.mark.parametrize("name", sorted({d[0] for d in DRAWN}))
def test_the_gradient_of_draws_is_that_of_inference(name):
    x, quantizer = [[-2, -0.4, 0.1], [0.3, 0.9, 2]], get(name)
    training = functools.partial(quantizer, training=True)
    np.testing.assert_array_equal(run(training, x)[1], run(quantizer, x)[1])


def test_learns_with_draws():
    dense = qf.layers.QuantDense(
        1,
        use_bias=False,
        kernel_quantizer="quantized_bits(4, 0, 0, True, None, True)",
        kernel_constraint="weight_clip",
    )
    model = keras.Sequential([keras.Input((2,)), dense])
    model.compile(keras.optimizers.Adam(0.02), "mse", **WITHOUT_XLA)
    x = np.random.default_rng(0).normal(size=(640, 2)).astype("float32")
    y = x @ np.float32([[0.5], [-0.25]])
    model.fit(x, y, batch_size=32, epochs=15, verbose=0)
    actual = model.predict(np.eye(2, dtype="float32"), verbose=0)
    np.testing.assert_allclose(actual, [[0.5], [-0.25]], atol=0.125)
