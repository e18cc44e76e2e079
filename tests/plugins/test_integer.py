"""Integers with a scale and a zero point: numbers by hand, and those of TensorFlow."""

from pathlib import Path

import keras
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from keras import ops

import qframe as qf
from examples import settings
from qframe.errors import ArgumentError, QFrameError
from qframe.quantizers import axes_within_channels
from qframe.quantizers.differentiation import to_numpy

pytestmark = [
    pytest.mark.ends,
    pytest.mark.filterwarnings("ignore::qframe.errors.StarvedWeightsWarning"),
]
Integer = qf.quantizers.Integer


def values(quantizer, x, **kwargs):
    return keras.ops.convert_to_numpy(quantizer(np.asarray(x, "float32"), **kwargs))


@pytest.mark.parametrize(
    ("arguments", "x", "expected"),
    [
        ({"bits": 3}, [3.0, 2.5, 1.5, 0.4, -0.6, -3.0], [3, 2, 2, 0, -1, -3]),
        ({"bits": 2}, [1.0, 0.6, -0.2], [1, 1, 0]),
        # From 0 to 3 in three steps, with zero at the smallest integer.
        ({"bits": 2, "symmetric": False}, [0.2, 1.4, 3.0, 0.0], [0, 1, 3, 0]),
        # From -1 to 2, where 0 is a step.
        ({"bits": 2, "symmetric": False}, [-1.0, 2.0, 0.4, 0.0], [-1, 2, 0, 0]),
        # All above zero: the range begins at zero all the same.
        ({"bits": 2, "symmetric": False}, [3.0, 2.6], [3, 3]),
        ({"bits": 3, "rounding": "half_up"}, [3.0, 0.5, -0.5, 1.5], [3, 1, 0, 2]),
        ({"bits": 3, "rounding": "half_away"}, [3.0, 0.5, -0.5, 1.5], [3, 1, -1, 2]),
        ({"bits": 3, "rounding": "floor"}, [3.0, 0.9, -0.1], [3, 0, -1]),
        ({"bits": 3, "rounding": "ceil"}, [3.0, 0.1, -0.9], [3, 1, 0]),
        ({"bits": 3, "rounding": "toward_zero"}, [3.0, 0.9, -0.9], [3, 0, 0]),
        ({"bits": 8}, [0.0, 0.0], [0, 0]),
    ],
)
def test_golden_numbers(arguments, x, expected):
    np.testing.assert_allclose(values(Integer(**arguments), x), expected, rtol=1e-6)


def test_channels_and_groups_have_ranges_of_their_own():
    x = np.array([[1.0, 10.0], [0.4, 4.0], [3.0, 20.0], [-1.4, -7.0]], "float32")
    channel = Integer(bits=2, granularity="channel")
    np.testing.assert_allclose(values(channel, x), [[0, 0], [0, 0], [3, 20], [0, 0]])
    group = Integer(bits=2, granularity="group", group_size=2)
    expected = [[1, 10], [0, 0], [3, 20], [0, 0]]
    np.testing.assert_allclose(values(group, x), expected)
    actual = group.integers(x)
    np.testing.assert_array_equal(actual.values, [[1, 1], [0, 0], [1, 1], [0, 0]])
    np.testing.assert_array_equal(actual.scale, [[1, 3], [10, 20]])  # channel, group
    spread, _ = actual.spread()
    np.testing.assert_array_equal(spread, [[1, 10], [1, 10], [3, 20], [3, 20]])


@given(
    x=hnp.arrays("float32", (6, 3), elements=st.floats(-4, 4, width=32)),
    size=st.sampled_from([1, 2, 3, 6]),
    symmetric=st.booleans(),
)
@settings(max_examples=20)
def test_a_group_is_quantized_as_a_channel_of_its_own(x, size, symmetric):
    quantizer = Integer(bits=4, symmetric=symmetric, granularity="group", group_size=size)
    channel = Integer(bits=4, symmetric=symmetric, granularity="channel")
    parts = [values(channel, part) for part in np.split(x, 6 // size)]
    np.testing.assert_allclose(values(quantizer, x), np.concatenate(parts), rtol=1e-6)


def in_groups(x, axes, size, quantize):
    """Each group of each channel by itself, one after the other."""
    others = [axis for axis in range(x.ndim) if axis not in axes]
    result = np.empty_like(x)
    for place in np.ndindex(*(x.shape[axis] for axis in others)):
        index = [slice(None)] * x.ndim
        for axis, at in zip(others, place, strict=True):
            index[axis] = at
        channel = x[tuple(index)]
        flat = channel.reshape(-1).copy()
        for start in range(0, flat.size, size):
            flat[start : start + size] = quantize(flat[start : start + size])
        result[tuple(index)] = flat.reshape(channel.shape)
    return result


def by_largest(x):
    step = np.abs(x).max() / 7
    return np.clip(np.rint(x / step), -8, 7) * step


def by_percentile(x):
    low, high = np.percentile(x, [20, 80])
    step = max(-low, high, 1e-30) / 7
    return np.clip(np.rint(x / step), -8, 7) * step


def by_both_ends(x):
    low, high = min(x.min(), 0), max(x.max(), 0)
    step = (high - low) / 15
    zero = np.clip(np.rint(-8 - low / step), -8, 7)
    return np.clip(np.rint(x / step), -8 - zero, 7 - zero) * step


@pytest.mark.long
@pytest.mark.parametrize(
    ("arguments", "quantize"),
    [
        ({}, by_largest),
        ({"range": "percentile", "percentile": 80}, by_percentile),
        ({"symmetric": False}, by_both_ends),
    ],
    ids=["largest", "percentile", "both ends"],
)
@pytest.mark.parametrize(
    ("shape", "axis", "axes"),
    [
        ((3, 3, 3, 4), -1, (0, 1, 2)),
        ((2, 5, 3, 2), (-2, -1), (0, 1)),
        ((7, 3, 6), (1, 2), (0,)),
        ((13,), None, (0,)),
        ((3,), -1, ()),
        ((), -1, ()),
    ],
    ids=str,
)
def test_groups_run_over_all_numbers_of_a_channel(shape, axis, axes, arguments, quantize):
    x = np.random.default_rng(4).normal(0.3, 1, shape).astype("float32")
    for size in (4, 128):
        quantizer = Integer(bits=4, granularity="group", group_size=size, **arguments)
        actual = to_numpy(quantizer(x, channel_axis=axis))
        expected = in_groups(x, axes, size, quantize)
        # A rounded quotient may differ by the last bit: compare to a part of a step.
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-6)
        stored = quantizer.integers(x, channel_axis=axis)
        np.testing.assert_allclose(stored.dequantized(), actual, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(
            quantizer.reference(x, axis), actual, rtol=1e-5, atol=1e-6
        )


def test_groups_fit_the_kernels_of_a_stem_and_of_attention():
    word = "integer(bits=4, granularity='group', group_size=128)"
    attention = keras.layers.MultiHeadAttention(2, 64)
    stem = keras.layers.Conv2D(4, 3)
    attention.build((None, 3, 96), (None, 3, 96))
    stem.build((None, 8, 8, 3))
    for layer in (attention, stem):
        report = qf.quantize(layer, {"weight_quantizer": word})
        assert len(report.quantized) == (4 if layer is attention else 1)
    assert np.isfinite(to_numpy(stem(np.ones((1, 8, 8, 3), "float32")))).all()
    kernel = to_numpy(attention.query_dense.kernel)
    actual = to_numpy(attention.query_dense.quantized_weights()["kernel"])
    expected = in_groups(kernel, (0,), 128, by_largest)
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-6)


def test_groups_of_activations_are_channels_of_one_position():
    x = np.random.default_rng(5).normal(size=(2, 3, 5)).astype("float32")
    layer = qf.layers.QuantDense(
        5,
        kernel_initializer="identity",
        input_quantizer="integer(bits=4, granularity='group', group_size=2)",
    )
    expected = in_groups(x, (2,), 2, by_largest)
    np.testing.assert_allclose(to_numpy(layer(x)), expected, rtol=1e-4, atol=1e-6)


# TensorFlow's fake quantization.

ours_only = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="TensorFlow's own"
)


def in_range(low, high, shape=(4,), **arguments):
    """Asymmetric, with a range that is given."""
    quantizer = Integer(symmetric=False, gather="widest", **arguments)
    quantizer.build(shape)
    quantizer.set_range(low, high)
    return quantizer


@ours_only
@given(
    low=st.floats(-8, 0, width=16),
    length=st.floats(0.25, 8, width=16),
    bits=st.integers(2, 8),
    narrow=st.booleans(),
)
@settings(max_examples=40)
def test_it_is_the_fake_quantization_of_tensorflow(low, length, bits, narrow):
    import tensorflow as tf

    high = max(low + length, 0.0)
    steps = 2**bits - 1 - narrow
    step = (high - low) / steps
    # A zero point that is a tie goes elsewhere; the table of the document has it.
    assume(abs(abs(low / step) % 1 - 0.5) > 1e-3)
    x = np.linspace(low - 1, high + 1, 1013, dtype="float32")
    fake = tf.quantization
    ends = np.float32(low), np.float32(high)
    columns = np.stack([x, -x], axis=-1)
    both = np.float32([[low, -high], [high, -low]])
    pairs = [
        (fake.fake_quant_with_min_max_args(x, *ends, bits, narrow), x, ends, {}),
        (fake.fake_quant_with_min_max_vars(x, *ends, bits, narrow), x, ends, {}),
        (
            fake.fake_quant_with_min_max_vars_per_channel(columns, *both, bits, narrow),
            columns,
            both[:, None],
            {"granularity": "channel"},
        ),
    ]
    for expected, given_, range_, arguments in pairs:
        arguments |= {"bits": bits, "narrow_range": narrow}
        actual = values(in_range(*range_, given_.shape, **arguments), given_)
        # Ties: there TensorFlow rounds up, and we to even.
        tie = np.abs(np.abs(given_ / step % 1) - 0.5) < 1e-3
        assert (np.isclose(actual, expected, atol=1e-4) | tie).all()
        assert tie.mean() < 0.2


# What, both ends of the range, the input, and why: of the values or of the gradient.
DIFFERENCES = [
    ("value of a tie", 0, 3, 0.5, "to even: no bias upward, and as NumPy rounds"),
    ("value of a tie", 0, 3, 2.5, "the same"),
    ("value", 0.5, 2, 2.0, "a range without 0 is made longer; TensorFlow moves it"),
    ("value", -2, -0.5, -2.0, "the same"),
    ("value", -0.5, 2.5, -0.6, "a zero point that is a tie goes to even too"),
    ("gradient", 0, 3, 3.4, "what rounds to the grid is on it"),
    ("gradient", 0, 3, -0.4, "the same"),
]


def row_of(what, low, high, x, why):
    """A row of the table in the document."""
    import tensorflow as tf

    given_ = tf.constant([x], tf.float32)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(given_)
        here = in_range(low, high, bits=2)(given_)
        there = tf.quantization.fake_quant_with_min_max_args(given_, low, high, 2)
    result = here, there
    if what == "gradient":
        result = [tape.gradient(y, given_) for y in result]
    cells = [f"{float(y[0]) + 0.0:g}" for y in result]
    assert cells[0] != cells[1]
    return f"| {what} | {low:g} to {high:g} | {x:g} | {cells[0]} | {cells[1]} | {why} |"


@ours_only
def test_the_differences_are_those_of_the_document():
    text = (Path(__file__).parents[2] / "docs" / "integer.md").read_text("utf-8")
    table = "\n".join(row_of(*difference) for difference in DIFFERENCES)
    assert text.endswith(f"| --- |\n{table}\n"), f"write into docs/integer.md:\n{table}"


def test_a_range_of_zeros_gives_zeros():
    x = np.float32([-1e9, -3, 0, 3, np.inf])
    for symmetric in (True, False):
        quantizer = Integer(symmetric=symmetric, gather="widest")
        quantizer.build((5,))
        quantizer.set_range(0, 0)
        np.testing.assert_allclose(values(quantizer, x), np.zeros(5), atol=1e-25)


def test_the_gradient_reaches_half_a_step_beyond_the_grid():
    quantizer = Integer(bits=3, gather="widest")
    quantizer.build((4,))
    quantizer.set_range(-3.0, 3.0)
    from qframe.quantizers.differentiation import value_and_gradient

    x = np.array([-4.6, -4.4, 0.2, 3.4, 3.6], "float32")
    value, gradient = value_and_gradient(quantizer, x, np.ones_like(x))
    np.testing.assert_allclose(value, [-4, -4, 0, 3, 3])
    np.testing.assert_array_equal(gradient, [0, 1, 1, 1, 0])


@pytest.mark.parametrize("symmetric", [True, False])
def test_stochastic_rounding_is_fair_in_training_and_off_in_inference(symmetric):
    quantizer = Integer(bits=4, symmetric=symmetric, rounding="stochastic", seed=3)
    # The ends fix the range: a step of 1 symmetric, of 14/15 else.
    x = np.concatenate([[7.0, -7.0], np.full(10000, 2.3)]).astype("float32")
    drawn = values(quantizer, x, training=True)[2:]
    error = drawn.std() / np.sqrt(len(drawn))
    assert len(set(drawn)) == 2
    assert abs(drawn.mean() - 2.3) < 4 * error
    again = Integer(bits=4, symmetric=symmetric, rounding="stochastic", seed=3)
    np.testing.assert_array_equal(values(again, x, training=True)[2:], drawn)
    np.testing.assert_array_equal(
        values(quantizer, x), values(Integer(bits=4, symmetric=symmetric), x)
    )


def test_ranges_gather():
    first, second = np.float32([[-1, 2]]), np.float32([[-3, 1]])
    for gather, ends in (("widest", (-3, 2)), ("moving_average", (-2, 1.5))):
        momentum = 0.5 if gather == "moving_average" else None
        quantizer = Integer(gather=gather, momentum=momentum)
        quantizer(first)  # inference gathers nothing
        assert float(quantizer.gathered.started) == 0
        quantizer(first, training=True)
        quantizer(second, training=True)
        actual = [float(end) for end in (quantizer.gathered.low, quantizer.gathered.high)]
        np.testing.assert_allclose(actual, ends)
        quantizer.freeze()
        quantizer(10 * second, training=True)
        assert float(quantizer.gathered.low) == ends[0]
        quantizer.freeze(False)
        quantizer(np.float32([[np.inf, 1]]), training=True)  # overflow is left out
        assert float(quantizer.gathered.high) == ends[1]


@given(
    x=hnp.arrays("float32", (5, 4), elements=st.floats(-4, 4, width=32)),
    bits=st.integers(2, 8),
)
@settings(max_examples=20)
def test_mse_is_never_worse_than_minmax(x, bits):
    errors = [
        np.square(values(Integer(bits=bits, range=range_), x).astype(float) - x).mean()
        for range_ in ("mse", "minmax")
    ]
    assert errors[0] <= errors[1] * (1 + 1e-4) + 1e-9


def test_percentile():
    x = np.linspace(-1, 1, 201, dtype="float32")
    x[-1] = 100
    quantizer = Integer(bits=8, range="percentile", percentile=99.0)
    assert np.abs(values(quantizer, x)).max() < 1.1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"bits": 1}, "from 2 to 16, found 1"),
        ({"bits": 17}, "found 17"),
        ({"symmetric": 1}, "True or False"),
        ({"granularity": "chanel"}, "Did you mean 'channel'"),
        ({"granularity": "group"}, "needs the size of a group"),
        ({"group_size": 4}, "no effect with granularity='tensor'"),
        ({"granularity": "group", "group_size": 0}, "from 1 to"),
        ({"granularity": "group", "group_size": 4, "gather": "widest"}, "for weights"),
        ({"range": "max"}, "must be one of"),
        ({"percentile": 99.0}, "no effect with range='minmax'"),
        ({"range": "percentile", "percentile": 40}, "above 50 and up to 100"),
        ({"momentum": 0.5}, "no effect with gather=None"),
        ({"gather": "moving_average", "momentum": 1.0}, "from 0 up to 1, without 1"),
        ({"rounding": "even"}, "must be one of"),
        ({"seed": 1}, "no effect with rounding='half_even'"),
        ({"rounding": "stochastic", "seed": -1}, "seed of Integer.*found -1"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ArgumentError, match=message):
        Integer(**arguments)


def gathering():
    quantizer = Integer(gather="widest")
    quantizer.build((4,))
    return quantizer


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: Integer(granularity="group", group_size=4).call(keras.Input((3,))),
            "the number of elements of a channel is unknown",
        ),
        (
            lambda: Integer(granularity="channel")(np.ones((2, 2)), channel_axis=5),
            "names axis 5",
        ),
        (lambda: Integer().set_range(0, 1), "no range to be set"),
        (lambda: Integer(gather="widest").set_range(0, 1), "not built"),
        (lambda: gathering().set_range(2, 1), "not smaller, found 2.0 to 1.0"),
        (lambda: gathering().set_range(0, np.inf), "from a finite number"),
        (lambda: gathering().set_range([0, 1], 2), r"shape \(\), found \(2,\)"),
        (lambda: Integer().freeze(), "no gathered range to freeze"),
    ],
)
def test_wrong_use(call, message):
    with pytest.raises(ArgumentError, match=message):
        call()


def test_the_axis_of_the_channels_comes_from_the_layer():
    layer = keras.layers.Conv2DTranspose(3, 2)
    model = keras.Sequential([keras.Input((4, 4, 2)), layer])
    settings = {"kernel_quantizer": "integer(bits=4, granularity='channel')"}
    qf.quantize(model, settings)
    (actual,) = qf.integers(model).values()
    assert actual.scale.shape == (1, 1, 3, 1)
    assert axes_within_channels(4, -2) == (0, 1, 3)
    kernel = keras.ops.convert_to_numpy(model.layers[0].kernel)
    largest = np.abs(kernel).max((0, 1, 3), keepdims=True)
    np.testing.assert_allclose(actual.scale, largest / 7, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_integers_of_any_dtype_are_the_nearest_ones(dtype):
    x = np.random.default_rng(0).normal(size=(40, 30))
    tensor = ops.cast(ops.convert_to_tensor(x), dtype)
    x = np.asarray(ops.convert_to_numpy(ops.cast(tensor, "float32")), np.float64)
    found = qf.quantizers.Integer(bits=8, narrow_range=True).integers(tensor)
    steps = x / (np.abs(x).max() / 127)
    np.testing.assert_allclose(found.values, steps, atol=0.5001)


def test_integers_that_a_dtype_cannot_tell_apart_are_an_error():
    tensor = ops.cast(ops.linspace(-1.0, 1.0, 999), "bfloat16")
    text = r"reach 255 steps, which bfloat16 cannot tell apart. Build .* 'mixed_bfloat16'"
    with pytest.raises(QFrameError, match=text):
        qf.quantizers.Integer(bits=9, narrow_range=True).integers(tensor)


@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16"])
def test_int8_of_layers_of_any_dtype(dtype):
    layers = keras.layers.Dense(16, "relu", dtype=dtype), keras.layers.Dense(4, dtype=dtype)
    model = keras.Sequential([keras.Input((8,), dtype=dtype), *layers])
    qf.quantize(model, "int8")
    qf.calibrate(model, np.random.default_rng(0).normal(size=(64, 8)), verbose=0)
    for path, integers in qf.integers(model).items():
        if "kernel" in path:
            assert np.abs(integers.values).max() == 127
