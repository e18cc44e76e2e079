"""Small floats: golden numbers by hand, `ml_dtypes`, and blocks written out in Python."""

import itertools
import math
import re
from pathlib import Path

import keras
import ml_dtypes
import numpy as np
import pytest
from keras import ops

import qframe as qf
from fitting import WITHOUT_XLA
from qframe.errors import ArgumentError, QFrameError
from qframe.quantizers import straight_through
from qframe.quantizers.differentiation import MODES, to_numpy, to_tensor, value_and_gradient
from qframe_float.scaled import power_of

pytestmark = [
    pytest.mark.ends,
    pytest.mark.filterwarnings("ignore::qframe.errors.StarvedWeightsWarning"),
]

JAX = keras.backend.backend() == "jax"
# name: its type in ml_dtypes, the bits of exponent and mantissa, specials, the largest.
FORMATS = {
    "float8_e4m3": ("float8_e4m3fn", 4, 3, "nan", 448.0),
    "float8_e5m2": ("float8_e5m2", 5, 2, "ieee", 57344.0),
    "float6_e2m3": ("float6_e2m3fn", 2, 3, "none", 7.5),
    "float6_e3m2": ("float6_e3m2fn", 3, 2, "none", 28.0),
    "float4_e2m1": ("float4_e2m1fn", 2, 1, "none", 6.0),
}


def normal(shape, seed=0, dtype="float32"):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def run(quantizer, x, mode="eager"):
    x = np.asarray(x, "float32") if isinstance(x, list) else x
    return value_and_gradient(quantizer, x, np.ones_like(x), mode)


def model_of(*layers, shape):
    return keras.Sequential([keras.Input(shape), *layers])


def type_of(name):
    """The type of ml_dtypes for a quantizer."""
    version = tuple(map(int, ml_dtypes.__version__.split(".")[:2]))
    if "float8" not in name and version < (0, 5):
        pytest.skip(f"ml_dtypes {ml_dtypes.__version__} has no floats below 8 bits")
    return getattr(ml_dtypes, FORMATS[name][0])


def numbers(exponent_bits, mantissa_bits, largest, bias=None):
    """The numbers of a format from 0 upward, by the definition."""
    bias = 2 ** (exponent_bits - 1) - 1 if bias is None else bias
    result = [
        math.ldexp((e > 0) + m / 2**mantissa_bits, max(e, 1) - bias)
        for e in range(2**exponent_bits)
        for m in range(2**mantissa_bits)
    ]
    return np.array([x for x in result if x <= largest])


def beside(x):
    """Numbers, and their neighbours in float32, of both signs."""
    x = np.asarray(x, "float32")
    every = [x, np.nextafter(x, np.float32(np.inf)), np.nextafter(x, np.float32(0))]
    every = np.unique(np.concatenate(every))
    every = every[(every == 0) | (every >= np.finfo("float32").tiny)]
    return np.concatenate([every, -every])


# Golden numbers.


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("name", "x", "value", "gradient"),
    [
        # From 16 to 32 in steps of 2: 17 and 19 are ties. The last step at 0 is 2^-9.
        (
            "float8_e4m3",
            [17, 19, -19, 0.3, 2**-9, 2**-10, 3 * 2**-10, 448, 449, -1000, np.inf],
            [16, 20, -20, 0.3125, 2**-9, 0, 2**-8, 448, 448, -448, 448],
            [1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0],
        ),
        # From 8 to 16 in steps of 2.
        (
            "float8_e5m2",
            [9, 11, 0.3, 2**-16, 2**-17, 3 * 2**-17, 57344, 61440, -np.inf],
            [8, 12, 0.3125, 2**-16, 0, 2**-15, 57344, 57344, -57344],
            [1, 1, 1, 1, 1, 1, 1, 0, 0],
        ),
        (
            "float6_e2m3",
            [0.0625, 0.1875, 2.125, 2.375, 7.25, 7.5, 7.6, 1e-40],
            [0, 0.25, 2, 2.5, 7, 7.5, 7.5, 0],
            [1, 1, 1, 1, 1, 1, 0, 1],
        ),
        (
            "float6_e3m2",
            [1 / 32, 3 / 32, 9, 11, 26, 28, -29],
            [0, 1 / 8, 8, 12, 24, 28, -28],
            [1, 1, 1, 1, 1, 1, 0],
        ),
        (
            "float4_e2m1",
            [0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5, 6, 7, -2.5, -5.1],
            [0, 1, 1, 2, 2, 4, 4, 6, 6, -2, -6],
            [1, 1, 1, 1, 1, 1, 1, 1, 0, 1, 1],
        ),
        # Powers of two alone: 0, 1/4, 1/2, 1, 2, 4, 8, 16.
        (
            "minifloat(exponent_bits=3, mantissa_bits=0, specials='none')",
            [0.125, 0.13, 0.375, 0.74, 3, 5.9, 16, 17],
            [0, 0.25, 0.5, 0.5, 4, 4, 16, 16],
            [1, 1, 1, 1, 1, 1, 1, 0],
        ),
        # One bit of exponent: 0 to 3.5 in steps of 1/2.
        (
            "minifloat(exponent_bits=1, mantissa_bits=2, specials='none')",
            [0.25, 0.75, 1.3, 3.4, 3.5, 3.6],
            [0, 1, 1.5, 3.5, 3.5, 3.5],
            [1, 1, 1, 1, 1, 0],
        ),
    ],
)
def test_golden(name, x, value, gradient, mode):
    actual = run(qf.quantizers.get(name), x, mode)
    np.testing.assert_array_equal(actual[0], value)
    np.testing.assert_array_equal(actual[1], gradient)


# Against ml_dtypes.


def every_case(name):
    """Every number of a format, every tie, and what is beside them."""
    _, e, m, _, largest = FORMATS[name]
    result = numbers(e, m, largest)
    ties = (result[1:] + result[:-1]) / 2
    x = beside(np.concatenate([result, ties]))
    return x[np.abs(x) <= largest]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", FORMATS)
def test_rounding_is_that_of_ml_dtypes(name, mode):
    x = every_case(name)
    expected = x.astype(type_of(name)).astype("float32")
    assert np.isfinite(expected).all()
    np.testing.assert_array_equal(run(qf.quantizers.get(name), x, mode)[0], expected)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", FORMATS)
def test_rounding_of_half_floats_is_that_of_ml_dtypes(name, dtype):
    x = ops.cast(to_tensor(every_case(name)), dtype)
    given = to_numpy(x).astype("float32")
    actual = qf.quantizers.get(name)(x)
    assert keras.backend.standardize_dtype(actual.dtype) == dtype
    np.testing.assert_array_equal(to_numpy(actual), given.astype(type_of(name)))


@pytest.mark.parametrize("name", FORMATS)
def test_codes_are_those_of_ml_dtypes(name):
    x = every_case(name)
    patterns, scales = qf.quantizers.get(name).codes(x)
    expected = x.astype(type_of(name)).view("uint8")
    assert patterns.dtype == np.uint8
    assert scales == 1
    # What rounds to -0 has the pattern of +0 here.
    expected[expected == 2 ** (qf.quantizers.get(name).precision - 1)] = 0
    np.testing.assert_array_equal(patterns, expected)
    # And every pattern is reached.
    _, e, m, _, largest = FORMATS[name]
    assert len(np.unique(patterns)) == 2 * len(numbers(e, m, largest)) - 1


def test_the_differences_are_those_of_the_document():
    text = (Path(__file__).parents[2] / "docs" / "float.md").read_text("utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (\S+) \| (\S+) \| (\S+) \|$", text, re.MULTILINE)
    assert len(rows) == 7
    for name, *row in rows:
        given, here, there = map(np.float32, row)
        np.testing.assert_array_equal(run(qf.quantizers.get(name), [given])[0], [here])
        if "float8" in name or ml_dtypes.__version__ >= "0.5":
            actual = np.array([given]).astype(type_of(name)).astype("float32")
            np.testing.assert_array_equal(np.abs(actual), [np.abs(there)])
            assert (np.sign(actual) == np.sign(there)) | np.isnan(there)


@pytest.mark.parametrize("mode", MODES)
def test_a_float_of_16_bits_is_numpys(mode):
    every = np.arange(2**15 - 2**10, dtype="uint16").view("float16").astype("float32")
    ties = (every[1:] + every[:-1]) / 2
    x = beside(np.concatenate([every[::7], ties[::5]]))
    x = x[np.abs(x) <= 65504]
    name = "minifloat(exponent_bits=5, mantissa_bits=10, specials='ieee')"
    quantizer = qf.quantizers.get(name)
    actual = run(quantizer, x, mode)[0]
    np.testing.assert_array_equal(actual, x.astype("float16").astype("float32"))
    patterns, _ = quantizer.codes(x)
    assert patterns.dtype == np.uint16
    expected = (x.astype("float16") + 0).view("uint16")
    np.testing.assert_array_equal(patterns, np.where(expected == 2**15, 0, expected))


@pytest.mark.parametrize("name", FORMATS)
def test_the_named_ones_are_minifloats(name):
    _, e, m, specials, largest = FORMATS[name]
    quantizer = qf.quantizers.get(name)
    same = qf.quantizers.Minifloat(e, m, specials)
    expected = numbers(e, m, largest)
    for one in (quantizer, same):
        assert one.precision == 1 + e + m
        np.testing.assert_array_equal(one.traits.levels[len(expected) - 1 :], expected)
        np.testing.assert_array_equal(
            np.negative(one.traits.levels[::-1]), one.traits.levels
        )


# Scales.


def scale_of(largest, limit, power_of_two):
    """The scale that takes the largest magnitude to the largest number."""
    if not power_of_two:
        return np.float32(largest) * np.float32(1 / limit)
    scale = 2.0**-100
    while limit * scale < largest:
        scale *= 2
    return scale


def nearest(x, of):
    """The nearest of ascending numbers, of two the one with the even pattern."""
    distance = np.abs(np.abs(x)[..., None] - of)
    least = distance == distance.min(-1, keepdims=True)
    index = np.where(least, np.arange(len(of)) % 2, 2).argmin(-1)
    return np.copysign(of[index], x)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("power_of_two", [False, True])
@pytest.mark.parametrize("scale", ["tensor", "channel"])
@pytest.mark.parametrize("name", FORMATS)
def test_scales_fit_the_largest_number(name, scale, power_of_two, mode):
    _, e, m, _, largest = FORMATS[name]
    x = normal((6, 5, 3)) * np.float32([1e-3, 1, 500])
    quantizer = qf.quantizers.get(name + f"(scale={scale!r}, power_of_two={power_of_two})")
    actual, gradient = run(quantizer, x, mode)
    np.testing.assert_array_equal(gradient, np.ones_like(x))
    parts = [(..., slice(None))] if scale == "tensor" else [(..., c) for c in range(3)]
    for part in parts:
        s = scale_of(np.abs(x[part]).max(), largest, power_of_two)
        steps = (x[part] / np.float32(s)).astype("float64")
        steps = np.clip(steps, -largest, largest)
        expected = nearest(steps, numbers(e, m, largest)) * s
        np.testing.assert_allclose(actual[part], expected, rtol=1e-6)
    patterns, scales = quantizer.codes(x)
    assert scales.shape == ((1, 1, 3) if scale == "channel" else (1, 1, 1))
    signs = np.where(patterns >= 2 ** (e + m), -1, 1)
    again = numbers(e, m, np.inf)[patterns % 2 ** (e + m)] * signs * scales
    np.testing.assert_allclose(again, actual, rtol=1e-6)


@pytest.mark.parametrize("power_of_two", [False, True])
def test_scales_of_unusual_tensors(power_of_two):
    quantizer = qf.quantizers.Float4E2M1("tensor", power_of_two)
    for x in (np.zeros((3, 2), "float32"), np.zeros((0, 2), "float32")):
        np.testing.assert_array_equal(run(quantizer, x)[0], x)
    # NaN has no part in the scale; what is infinite is the largest there is.
    value, _ = run(quantizer, [1.0, np.nan, 6.0, 2.4])
    np.testing.assert_array_equal(value, [1, np.nan, 6, 2])
    value, _ = run(quantizer, [1.0, np.inf, -np.inf])
    assert value[0] == 0
    assert value[1] == -value[2] == 6 * 2.0**125
    # Nothing is subnormal, and nothing finite becomes infinite.
    tiny = np.float32([2**-126, 2**-125, 1e-40])
    actual = run(quantizer, tiny)[0]
    np.testing.assert_array_equal(actual, [2**-126, 2**-125, 0])
    for dtype, most in (("float16", 65504.0), ("float32", 3.4e38), ("bfloat16", 3e38)):
        actual = to_numpy(quantizer(ops.cast(to_tensor(np.float32([most])), dtype)))
        assert most / 2 < actual.astype("float64")[0] < np.inf


@pytest.mark.parametrize("axis", [None, -1])
def test_a_vector_has_one_scale(axis):
    quantizer = qf.quantizers.Float4E2M1("channel")
    actual = quantizer(np.float32([3, 1.3, -0.2]), channel_axis=axis)
    np.testing.assert_array_equal(to_numpy(actual), [3, 1.5, -0.25])


def test_integers_of_half_floats_are_exact():
    # Rounded to float16 the values are hundreds of steps off the grid.
    kernel = normal((40, 4))
    for name in ("float8_e5m2(scale='channel')", "float8_e4m3(scale='tensor')"):
        x = ops.cast(to_tensor(kernel), "float16")
        actual = qf.quantizers.get(name).integers(x)
        expected = qf.quantizers.get(name).integers(to_numpy(x).astype("float32"))
        np.testing.assert_array_equal(actual.values, expected.values)
        np.testing.assert_array_equal(actual.scale, expected.scale)


@pytest.mark.parametrize("mode", MODES)
def test_the_power_below_is_exact(mode):
    powers = np.ldexp(np.float32(1), np.arange(-126, 128))
    x = np.concatenate([powers, np.nextafter(powers, np.float32(np.inf))])
    x = np.concatenate([x, np.nextafter(powers[1:], np.float32(0)), 1.7 * powers])
    expected = np.ldexp(np.float32(1), np.frexp(x)[1] - 1)
    power = straight_through(power_of, ops.ones_like)
    actual, _ = value_and_gradient(power, x, x, mode)
    np.testing.assert_array_equal(actual, expected)


# Blocks.

MX = {
    "mxfp8": (numbers(4, 3, 448), 8),
    "mxfp8(element='e5m2')": (numbers(5, 2, 57344), 15),
    "mxfp6": (numbers(2, 3, 7.5), 2),
    "mxfp6(element='e3m2')": (numbers(3, 2, 28), 4),
    "mxfp4": (numbers(2, 1, 6), 2),
    "mxint8": (np.arange(128) / 64, 0),
}


def mx(name, **arguments):
    quantizer = qf.quantizers.get(name)
    return type(quantizer)(**{**quantizer.parameters, **arguments})


def blocks_of(row, name, size):
    """The values and scales of numbers that follow each other."""
    of, exponent = MX[name]
    result = []
    for start in range(0, len(row), size):
        block = row[start : start + size].astype("float64")
        largest, scale = np.abs(block).max(), 2.0**-90
        while 2 * scale <= largest:
            scale *= 2
        scale /= 2.0**exponent
        values = nearest(np.clip(block / scale, -of[-1], of[-1]), of) * scale
        result.append(np.stack([values, np.full(len(block), scale)]))
    return np.concatenate(result, axis=1)


def uneven(shape, seed=0):
    """Normal numbers times powers of ten, and some powers of two."""
    x = normal(shape, seed) * np.float32(10.0) ** normal(shape, seed + 1)
    x.ravel()[::7] = np.float32(2.0) ** np.rint(normal(x.ravel()[::7].shape, 3) * 4)
    return x


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", MX)
def test_blocks_of_a_kernel(name, mode):
    x = uneven((70, 3))
    value, gradient = run(mx(name, block_size=32), x, mode)
    for channel in range(3):
        expected, scale = blocks_of(x[:, channel], name, 32)
        np.testing.assert_array_equal(value[:, channel], expected)
        # 32, 32 and 6 of them.
        assert len(np.unique(scale)) <= 3
    np.testing.assert_array_equal(gradient, np.ones_like(x))


@pytest.mark.parametrize("size", [4, 1000])
def test_blocks_of_kernels_run_through_each_channel(size):
    quantizer = mx("mxfp4", block_size=size)
    for shape, axis in (
        ((3, 3, 5, 2), -1),
        ((3, 2, 4, 5), -2),
        ((3, 3, 2, 3), (-2, -1)),
        ((37,), None),
        ((37,), -1),
    ):
        x = uneven(shape)
        actual = to_numpy(quantizer(to_tensor(x), channel_axis=axis))
        axes = (axis,) if isinstance(axis, int) and len(shape) > 1 else axis
        axes = [a % len(shape) for a in axes] if isinstance(axes, tuple) else []
        rows = np.moveaxis(x, axes, range(len(axes)))
        rows = rows.reshape(math.prod(shape[a] for a in axes), -1)
        expected = np.stack([blocks_of(row, "mxfp4", size)[0] for row in rows])
        moved = np.moveaxis(actual, axes, range(len(axes))).reshape(rows.shape)
        np.testing.assert_array_equal(moved, expected)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_blocks_along_an_axis(axis):
    x = uneven((5, 6, 7))
    quantizer = mx("mxfp6", block_size=4, axis=axis)
    actual = np.moveaxis(to_numpy(quantizer(to_tensor(x))), axis, -1)
    for index in itertools.product(*map(range, actual.shape[:-1])):
        row = np.moveaxis(x, axis, -1)[index]
        np.testing.assert_array_equal(actual[index], blocks_of(row, "mxfp6", 4)[0])


def test_special_numbers_in_blocks():
    quantizer = mx("mxfp4", block_size=4, axis=-1)
    x = np.float32([[0, 0, 0, 0], [np.nan, 2.4, 6, -1], [np.inf, -np.inf, 1, 1e-40]])
    value = run(quantizer, x)[0]
    np.testing.assert_array_equal(value[0], x[0])
    np.testing.assert_array_equal(value[1], [np.nan, 2, 6, -1])
    np.testing.assert_array_equal(value[2], [6 * 2.0**125, -6 * 2.0**125, 0, 0])
    # Held where nothing is subnormal: steps of 2^-126.
    tiny = np.float32([[2**-126, 2**-125, 1e-40, 0]])
    np.testing.assert_array_equal(run(quantizer, tiny)[0], [[2**-126, 2**-125, 0, 0]])
    with pytest.raises(QFrameError, match="not finite"):
        quantizer.codes(x)
    assert to_numpy(quantizer(to_tensor(np.float32(-3.3)))) == -3
    alone = run(mx("mxfp4", block_size=1), np.float32([[5.1, 0.011]]))[0]
    np.testing.assert_array_equal(alone, [[6, 6 / 512]])
    for shape in ((0, 4), (4, 0)):
        assert quantizer(np.zeros(shape, "float32")).shape == shape


@pytest.mark.skipif(len(MODES) < 3, reason="Keras computes in float32 elsewhere")
def test_float64_has_its_own_limits():
    x = np.array([[1e300, 1.0, -1e-300], [2.0**-140, 2.0**-141, 2.0**-150]])
    value = run(mx("mxfp4", axis=-1), x)[0]
    # The exponents of the scale go from -127 to 127.
    assert value.dtype == np.float64
    expected = [[6 * 2.0**127, 0, 0], [0, 0, 0]]
    np.testing.assert_array_equal(value, expected)
    value = run(qf.quantizers.Float8E4M3("tensor", True), x)[0]
    np.testing.assert_allclose(value, [[1e300, 0, 0], [0, 0, 0]], rtol=2**-4)


@pytest.mark.skipif(len(MODES) < 3, reason="only TensorFlow has unknown sizes")
@pytest.mark.parametrize("axis", [None, 0, 1, -1])
def test_unknown_sizes(axis):
    import tensorflow as tf

    quantizer = mx("mxfp4", block_size=4, axis=axis)
    x = uneven((5, 6, 7))
    unknown = tf.TensorSpec([None, None, None], tf.float32)
    actual = tf.function(quantizer, input_signature=[unknown])(x)
    np.testing.assert_array_equal(to_numpy(actual), to_numpy(quantizer(x)))
    known = tf.TensorSpec([None, 6, 7], tf.float32)
    actual = tf.function(quantizer, input_signature=[known])(x)
    np.testing.assert_array_equal(to_numpy(actual), to_numpy(quantizer(x)))


@pytest.mark.parametrize("name", MX)
def test_codes_of_blocks(name):
    x = uneven((70, 3))
    quantizer = mx(name, block_size=32)
    patterns, scales = quantizer.codes(x)
    assert patterns.dtype == np.uint8
    if name == "mxint8":
        elements = patterns.view("int8") / 64
        assert patterns.view("int8").min() >= -127
    else:
        of, bits = MX[name][0], quantizer.precision
        half = 2 ** (bits - 1)
        assert patterns.max() < 2**bits
        elements = of[patterns % half] * np.where(patterns >= half, -1, 1)
    np.testing.assert_array_equal(elements * scales, to_numpy(quantizer(x)))
    # What E8M0 holds: powers of two.
    assert (np.frexp(scales)[0] == 0.5).all()
    actual = quantizer.integers(x)
    assert actual.scale.size == actual.groups.count(x.shape)
    np.testing.assert_array_equal(actual.dequantized(), to_numpy(quantizer(x)))


# In layers.


@pytest.mark.parametrize("name", ["mxfp8", "mxfp4"])
def test_blocks_of_activations_are_within_an_example(name):
    for shape, layer in (
        ((6,), qf.layers.QuantDense(2, input_quantizer=name, output_quantizer=name)),
        ((5, 5, 6), qf.layers.QuantConv2D(2, 3, input_quantizer=name)),
    ):
        x = uneven((9, *shape))
        model = model_of(layer, shape=shape)
        whole = to_numpy(model(x))
        parts = [to_numpy(model(x[i : i + 1])) for i in range(9)]
        np.testing.assert_allclose(whole, np.concatenate(parts), rtol=1e-5, atol=1e-5)
        if len(shape) == 1:
            rows = np.stack([blocks_of(row, name, 32)[0] for row in x])
            expected = rows.astype("float32") @ to_numpy(layer.kernel)
            expected = np.stack([blocks_of(row, name, 32)[0] for row in expected])
            # A product that is summed in another order may round to a neighbour.
            close = np.isclose(whole, expected, rtol=1e-4, atol=1e-5)
            assert close.mean() > 0.9


def test_kernels_in_a_model():
    conv = keras.layers.Conv2D(4, 3, name="conv")
    dense = keras.layers.Dense(3, name="dense")
    model = model_of(conv, keras.layers.Flatten(), dense, shape=(5, 5, 7))
    qf.quantize(
        model,
        [
            ("Conv2D", {"kernel_quantizer": "mxfp6", "bias_quantizer": "mxint8"}),
            ("Dense", {"kernel_quantizer": "float8_e5m2(scale='channel')"}),
        ],
    )
    kernel, bias = uneven((3, 3, 7, 4)), uneven((4,))
    conv.set_weights([kernel, bias])
    actual = qf.integers(model)
    assert sorted(actual) == ["conv/bias", "conv/kernel", "dense/kernel"]
    values = actual["conv/kernel"].dequantized().reshape(63, 4)
    for channel, row in enumerate(kernel.reshape(63, 4).T):
        expected = blocks_of(row, "mxfp6", 32)[0]
        np.testing.assert_array_equal(values[:, channel], expected)
    expected = blocks_of(bias, "mxint8", 32)[0]
    np.testing.assert_array_equal(actual["conv/bias"].dequantized(), expected)
    scales = actual["dense/kernel"].scale
    largest = np.abs(to_numpy(dense.kernel)).max(axis=0, keepdims=True)
    np.testing.assert_allclose(scales, largest / 57344 * 2.0**-16, rtol=1e-6)
    assert actual["dense/kernel"].values.dtype == np.int64
    assert actual["conv/kernel"].values.dtype == np.int8


@pytest.mark.parametrize(
    "name",
    [
        "float8_e4m3(scale='channel', rounding='stochastic', seed=3)",
        "minifloat(exponent_bits=3, mantissa_bits=4, specials='ieee', scale='tensor')",
        "mxfp4(block_size=8)",
    ],
)
def test_a_layer_trains_and_is_saved(name, tmp_path):
    keras.utils.set_random_seed(1)
    layer = qf.layers.QuantDense(2, input_quantizer=name, kernel_quantizer=name)
    model = model_of(layer, shape=(12,))
    x = normal((64, 12))
    y = x[:, :2] - x[:, 2:4]
    model.compile(keras.optimizers.Adam(0.02), "mse", **WITHOUT_XLA)
    history = model.fit(x, y, batch_size=32, epochs=30, verbose=0).history["loss"]
    assert history[-1] < 0.6 * history[0]
    model.save(tmp_path / "model.keras")
    again = qf.load_model(tmp_path / "model.keras")
    assert repr(again.layers[-1].kernel_quantizer) == repr(layer.kernel_quantizer)
    np.testing.assert_array_equal(again.predict(x, verbose=0), model.predict(x, verbose=0))


# Stochastic rounding.


def drawn(quantizer, x, count=10_000):
    rows = np.broadcast_to(np.float32(x), (count, len(x)))
    return to_numpy(quantizer(to_tensor(np.array(rows)), training=True))


@pytest.mark.parametrize("name", FORMATS)
def test_stochastic_rounding_is_fair(name):
    _, e, m, _, largest = FORMATS[name]
    of = numbers(e, m, largest)
    rng = np.random.default_rng(5)
    x = rng.uniform(-1, 1, 40) * largest ** rng.uniform(0, 1, 40)
    x = np.float32([*x, of[1] / 4, -of[1] * 0.9])
    quantizer = qf.quantizers.get(f"{name}(rounding='stochastic', seed=0)")
    actual = drawn(quantizer, x).astype("float64")
    error = 4 * actual.std(axis=0) / np.sqrt(len(actual))
    assert (np.abs(actual.mean(axis=0) - x) <= error + 1e-7 * np.abs(x)).all()
    for column, number in zip(actual.T, x, strict=True):
        below, above = of[of <= abs(number)].max(), of[of >= abs(number)].min()
        assert {*np.abs(column)} == {below, above}
    # What is a number of the format already stays, and beyond the end there is the end.
    exact = np.float32([*of, *-of, 2 * largest, np.inf, -np.inf])
    expected = np.clip(np.tile(exact, (50, 1)), -largest, largest)
    np.testing.assert_array_equal(drawn(quantizer, exact, 50), expected)
    value, gradient = run(quantizer, x)
    np.testing.assert_array_equal(value, run(qf.quantizers.get(name), x)[0])
    np.testing.assert_array_equal(gradient, np.ones_like(x))


def test_stochastic_rounding_under_a_scale_is_fair():
    x = np.float32([0.7, -0.31, 0.011, 1.0])
    for power_of_two in (False, True):
        quantizer = qf.quantizers.Float4E2M1("tensor", power_of_two, "stochastic", seed=1)
        actual = drawn(quantizer, x).astype("float64")
        error = 4 * actual.std(axis=0) / np.sqrt(len(actual))
        assert (np.abs(actual.mean(axis=0) - x) <= error + 1e-6).all()


def test_stochastic_rounding_has_a_seed():
    x = normal((64,))

    def draws(seed):
        quantizer = qf.quantizers.Float4E2M1(rounding="stochastic", seed=seed)
        return [to_numpy(quantizer(to_tensor(x), training=True)) for _ in range(2)]

    first, second = draws(7)
    again = draws(7)
    np.testing.assert_array_equal(again[0], first)
    np.testing.assert_array_equal(again[1], second)
    assert (first != second).any()
    assert (draws(8)[0] != first).any()
    keras.utils.set_random_seed(3)
    free = draws(None)[0]
    keras.utils.set_random_seed(3)
    np.testing.assert_array_equal(draws(None)[0], free)


@pytest.mark.parametrize("mode", MODES)
def test_the_gradient_of_draws(mode):
    quantizer = qf.quantizers.Float4E2M1(rounding="stochastic", seed=2)

    def train(x):
        return quantizer(x, training=True)

    if not (JAX and mode == "graph"):  # there the state of the seed is to be passed
        x = np.float32([-7, -6, 0.3, 6, 6.5])
        value, gradient = run(train, x, mode)
        np.testing.assert_array_equal(gradient, [0, 1, 1, 1, 0])
        assert value[2] in (0, 0.5)


# Arguments and names.


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: qf.quantizers.Minifloat(6), "exponent_bits of Minifloat.*1 to 5, found 6"),
        (lambda: qf.quantizers.Minifloat(4, -1), "mantissa_bits.*0 to 10, found -1"),
        (lambda: qf.quantizers.Minifloat(4, 3, "inf"), "'none', 'nan', 'ieee'"),
        (lambda: qf.quantizers.Minifloat(1, 0, "nan"), "no number but 0"),
        (lambda: qf.quantizers.Minifloat(1, 0, "ieee"), "no number but 0"),
        (lambda: qf.quantizers.Float8E4M3("chanel"), "Did you mean 'channel'"),
        (lambda: qf.quantizers.Float8E4M3(power_of_two=1), "True or False, found 1"),
        (lambda: qf.quantizers.Float6E2M3(rounding="up"), "'nearest', 'stochastic'"),
        (lambda: qf.quantizers.Float6E3M2(seed=-1), "seed of Float6E3M2.*found -1"),
        (lambda: qf.quantizers.Float6E3M2(seed=1), "no effect with rounding='nearest'"),
        (
            lambda: qf.quantizers.Float6E3M2(power_of_two=True),
            "power_of_two=True of Float6E3M2 has no effect with scale='none'",
        ),
        (lambda: qf.quantizers.MXFP8("e2m1"), "element of MXFP8 must be one of 'e4m3'"),
        (lambda: qf.quantizers.MXFP6("e4m3"), "element of MXFP6"),
        (lambda: qf.quantizers.MXFP4(0), "block_size of MXFP4.*1 to 65536, found 0"),
        (lambda: qf.quantizers.MXFP4(32.0), "found 32.0"),
        (lambda: qf.quantizers.MXINT8(axis="channels"), "axis of MXINT8"),
        (lambda: qf.quantizers.MXINT8(axis=2)(np.ones((2, 3))), "axis=2.*from -2 to 1"),
        (
            lambda: qf.quantizers.MXINT8(axis=-3).codes(np.ones((2, 3))),
            "axis=-3 of MXINT8 names an axis that a tensor of 2 axes lacks",
        ),
        (
            lambda: qf.quantizers.MXFP4()(np.ones((2, 3)), channel_axis=4),
            "channel_axis=4 names axis 4",
        ),
    ],
)
def test_wrong_arguments(make, message):
    with pytest.raises(ArgumentError, match=message):
        make()


def test_codes_of_what_is_not_finite():
    with pytest.raises(QFrameError, match="not finite"):
        qf.quantizers.Float8E4M3().codes([1.0, math.nan])


@pytest.mark.parametrize(
    ("names", "bits"),
    [
        (("float8_e4m3", "float8_e4m3fn", "Float8E4M3"), 8),
        (("float6_e3m2", "float6_e3m2fn"), 6),
        (("float4_e2m1", "float4_e2m1fn"), 4),
        (("minifloat(exponent_bits=5, mantissa_bits=10)",), 16),
        (("mxfp6", "MXFP6(element='e3m2')"), 6),
        (("mxint8", "float:mxint8(block_size=16)"), 8),
    ],
)
def test_names_and_precision(names, bits):
    actual = [qf.quantizers.get(name) for name in names]
    assert {q.precision for q in actual} == {bits}
    assert len({type(q) for q in actual}) == 1
