"""The quantizers of one bit: golden numbers by hand, and properties of each."""

import functools

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import qframe as qf
from qframe.errors import ArgumentError
from qframe.testing.differentiation import MODES, value_and_gradient

SUBNORMAL = np.float32(1e-40)
NORMAL = np.finfo("float32").tiny
KINKS = [0.0, -0.0, 1.0, -1.0, 1.25, -1.25]
KINKS += [SUBNORMAL, -SUBNORMAL, NORMAL, 2.0**127, -(2.0**127)]
ALL = [
    "ste_sign",
    "ste_sign(clip_value=1.25)",
    "ste_sign(clip_value=None)",
    "approx_sign",
    "swish_sign",
    "swish_sign(beta=2.0)",
    "ste_heaviside",
    "ste_heaviside(clip_value=None)",
    "magnitude_aware_sign",
    "noop(precision=8)",
]
ELEMENTWISE = [name for name in ALL if not name.startswith("magnitude")]


def numbers(dtype="float32"):
    """Kinks, ties, zeros, huge and tiny numbers."""
    edges = KINKS if dtype == "float32" else [0.0, -0.0, 1.0, -1.0, 1.25, -1.25]
    width = int(dtype.removeprefix("float"))
    return st.one_of(
        st.sampled_from([float(k) for k in edges]),
        st.floats(-3, 3, width=width),
        st.floats(allow_nan=False, allow_infinity=False, width=width),
    )


def tensors(dtype="float32"):
    """Tensors of unfriendly shapes."""
    # Few of them, since JAX compiles each operation anew for each shape.
    shapes = st.sampled_from([(1,), (9,), (2, 3), (3, 1, 5), (2, 1, 3, 2)])
    return hnp.arrays(dtype, shapes, elements=numbers(dtype))


quantizer_named = functools.cache(qf.quantizers.get)


def run(name, x, upstream=None, mode="eager"):
    upstream = np.ones_like(x) if upstream is None else upstream
    return value_and_gradient(quantizer_named(name), x, upstream, mode)


# Golden numbers, by hand from the formulas in the documentation.

X = np.array([-2.0, -1.0, -0.5, -0.0, 0.0, 0.5, 1.0, 1.25, 2.0], "float32")
SIGN = [-1, -1, -1, 1, 1, 1, 1, 1, 1]
# 5 (2 - 2.5 tanh 1.25) / (1 + cosh 2.5), 5 (2 - 5 tanh 2.5) / (1 + cosh 5), ...
SWISH = {0.0: 5.0, 0.5: -0.0846215653, 1.0: -0.1949922549, 2.0: -0.0036312524}


@pytest.mark.parametrize(
    ("name", "value", "gradient"),
    [
        ("ste_sign", SIGN, [0, 1, 1, 1, 1, 1, 1, 0, 0]),
        ("ste_sign(clip_value=1.25)", SIGN, [0, 1, 1, 1, 1, 1, 1, 1, 0]),
        ("ste_sign(clip_value=None)", SIGN, [1] * 9),
        ("approx_sign", SIGN, [0, 0, 1, 2, 2, 1, 0, 0, 0]),
        ("ste_heaviside", [0, 0, 0, 0, 0, 1, 1, 1, 1], [0, 1, 1, 1, 1, 1, 1, 0, 0]),
        ("noop(precision=4)", X, [1] * 9),
    ],
)
@pytest.mark.parametrize("mode", MODES)
def test_golden(name, value, gradient, mode):
    y, dy = run(name, X, mode=mode)
    np.testing.assert_array_equal(y, np.asarray(value, "float32"))
    np.testing.assert_array_equal(dy, np.asarray(gradient, "float32"))


@pytest.mark.parametrize("mode", MODES)
def test_swish_sign_golden(mode):
    x = np.array([*SWISH, *(-k for k in SWISH), 30.0, 1e30], "float32")
    _, gradient = run("swish_sign", x, mode=mode)
    expected = [*SWISH.values(), *SWISH.values(), 0, 0]
    np.testing.assert_allclose(gradient, expected, rtol=2e-5, atol=1e-12)


@pytest.mark.parametrize("mode", MODES)
def test_magnitude_aware_sign_golden(mode):
    x = np.array([[1.0, -4.0, 0.0], [-3.0, 0.5, -0.0]], "float32")
    value, gradient = run("magnitude_aware_sign", x, mode=mode)
    np.testing.assert_array_equal(value, [[2, -2.25, 0], [-2, 2.25, 0]])
    np.testing.assert_array_equal(gradient, [[2, 0, 0], [0, 2.25, 0]])


@pytest.mark.parametrize(
    ("axis", "magnitudes"),
    [
        (-1, [[[3, 4]]]),
        (0, [[[1.5]], [[5.5]]]),
        ((0, 1), [[[0.5], [2.5]], [[4.5], [6.5]]]),
        (None, [[[3.5]]]),
    ],
)
def test_magnitude_follows_the_channel_axis(axis, magnitudes):
    x = np.arange(8, dtype="float32").reshape(2, 2, 2) * [1, -1]
    quantizer = qf.quantizers.MagnitudeAwareSign()
    y = keras.ops.convert_to_numpy(quantizer(x.astype("float32"), channel_axis=axis))
    np.testing.assert_allclose(np.abs(y), np.broadcast_to(magnitudes, x.shape))


# Properties of every quantizer.


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ALL)
# One shape, odd so that vectorized loops have a remainder: one compilation.
@given(x=hnp.arrays("float32", (3, 13), elements=numbers()))
@settings(max_examples=20)
def test_modes_agree_with_eager(name, mode, x):
    if name.startswith("magnitude"):
        x = np.clip(x, -1e6, 1e6)  # so that the mean does not overflow
    for eager, other in zip(run(name, x), run(name, x, mode=mode), strict=True):
        np.testing.assert_allclose(other, eager, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ELEMENTWISE)
@given(x=tensors())
@settings(max_examples=20)
def test_surrogate_gradient_equals_its_reference(name, x):
    traits = qf.quantizers.get(name).traits
    _, gradient = run(name, x)
    np.testing.assert_allclose(gradient, traits.surrogate(x), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ALL)
@given(x=tensors(), factor=st.sampled_from([-2.0, 0.0, 0.5]))
@settings(max_examples=20)
def test_gradient_is_linear_in_upstream_and_finite(name, x, factor):
    x = np.clip(x, -1e6, 1e6)
    _, once = run(name, x)
    _, scaled = run(name, x, np.full_like(x, factor))
    assert np.isfinite(once).all()
    # Some devices flush subnormal products to zero.
    smallest = np.finfo(x.dtype).tiny
    np.testing.assert_allclose(scaled, factor * once, rtol=1e-6, atol=smallest)


@pytest.mark.parametrize("name", ALL)
@given(x=st.one_of(tensors("float32"), tensors("float16")))
@settings(max_examples=30)
def test_traits_hold(name, x):
    traits = quantizer_named(name).traits
    if traits.channelwise:
        x = np.clip(x, -100, 100)  # so that the mean of float16 does not overflow
    y, gradient = run(name, x)
    assert y.shape == x.shape
    assert y.dtype == x.dtype
    if traits.levels and not traits.scaled:
        assert set(y.ravel()) <= set(traits.levels)
    if traits.range and not traits.scaled:
        assert traits.range[0] <= y.min()
        assert y.max() <= traits.range[1]
    if traits.support:
        low, high = traits.support
        assert not gradient[(x < low) | (x > high)].any()
    if traits.idempotent:
        np.testing.assert_array_equal(run(name, y)[0], y)
    if traits.odd:
        nonzero = np.abs(x) >= (2.0**-126 if x.dtype == "float32" else 2.0**-24)
        np.testing.assert_array_equal(run(name, -x)[0][nonzero], -y[nonzero])
    if traits.monotone:
        along = y.ravel()[np.argsort(x, axis=None)]
        assert (along[1:] >= along[:-1]).all()


@pytest.mark.parametrize("name", ALL)
def test_identifier_round_trip(name):
    quantizer = qf.quantizers.get(name)
    again = qf.quantizers.get(repr(quantizer))
    assert type(again) is type(quantizer)
    assert again.parameters == quantizer.parameters
    assert type(quantizer).from_config(quantizer.get_config()).parameters == (
        quantizer.parameters
    )


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_nan_stays_nan_with_no_gradient_and_infinity_is_an_end(name):
    x = np.array([np.nan, np.inf, -np.inf], "float32")
    y, gradient = run(name, x)
    assert np.isnan(y[0])
    if not name.startswith("noop"):
        low, high = qf.quantizers.get(name).traits.range
        np.testing.assert_array_equal(y[1:], [high, low])
    if "None" in name or name.startswith("noop"):
        np.testing.assert_array_equal(gradient, [1, 1, 1])
    else:
        np.testing.assert_array_equal(gradient, [0, 0, 0])


@pytest.mark.parametrize("dtype", ["int32", "uint8", "bool"])
def test_integers_become_floats(dtype):
    x = np.array([0, 1, 1]).astype(dtype)
    y = qf.quantizers.SteHeaviside()(x)
    assert keras.backend.standardize_dtype(y.dtype) == keras.config.floatx()
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(y), [0, 1, 1])


def test_sign_of_many_subnormals():
    # A vectorized sign flushes some lanes of these to zero.
    x = np.full(9, 1e-38, "float32")
    np.testing.assert_array_equal(run("ste_sign", x)[0], np.ones(9))
    # They count as zero, on devices that flush them and on those that do not.
    np.testing.assert_array_equal(run("ste_sign", -x)[0], np.ones(9))
    np.testing.assert_array_equal(run("ste_heaviside", x)[0], np.zeros(9))


def test_bfloat16():
    x = keras.ops.cast(keras.ops.convert_to_tensor(X), "bfloat16")
    y = qf.quantizers.SteSign()(x)
    assert keras.backend.standardize_dtype(y.dtype) == "bfloat16"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: qf.quantizers.SteSign(clip_value=0), "positive number, found 0"),
        (lambda: qf.quantizers.SteSign(clip_value=float("nan")), "found nan"),
        (lambda: qf.quantizers.SteSign(clip_value="1"), "found '1'"),
        (lambda: qf.quantizers.SwishSign(beta=float("inf")), "finite"),
        (lambda: qf.quantizers.NoOp(precision=0), "number of bits, found 0"),
        (lambda: qf.quantizers.NoOp(precision=True), "found True"),
        (lambda: qf.constraints.WeightClip(-1), "positive number, found -1"),
        (
            lambda: qf.quantizers.get("ste_sign(clip_valu=1)"),
            "Did you mean 'clip_value'",
        ),
        (lambda: qf.quantizers.get("noop"), r"noop.*|NoOp\(precision=...\)"),
    ],
)
def test_wrong_arguments(make, message):
    with pytest.raises(ArgumentError, match=message):
        make()


@given(x=tensors(), clip=st.sampled_from([0.5, 1.0, 2.0]))
@settings(max_examples=25)
def test_weight_clip(x, clip):
    constraint = qf.constraints.get(f"weight_clip(clip_value={clip})")
    clipped = keras.ops.convert_to_numpy(constraint(keras.ops.convert_to_tensor(x)))
    np.testing.assert_allclose(clipped, np.clip(x, -clip, clip), rtol=0, atol=2e-38)


def test_names_of_larq():
    for name in [
        "SteSign",
        "ApproxSign",
        "SwishSign",
        "SteHeaviside",
        "MagnitudeAwareSign",
        "NoOp",
    ]:
        assert getattr(qf.quantizers, name).__name__ == name
    assert qf.quantizers.get("SteSign").parameters == {"clip_value": 1.0}
    assert qf.quantizers.get(
        {"class_name": "SteSign", "config": {"clip_value": 2.0}}
    ).parameters == {"clip_value": 2.0}
    assert qf.constraints.WeightClip().clip_value == 1.0
    assert qf.quantizers.ste_sign.precision == 1
