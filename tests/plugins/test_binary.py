"""The quantizers of one bit: golden numbers by hand; test_conformance has the rest."""

import functools

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import qframe as qf
from examples import settings
from qframe.errors import ArgumentError
from qframe.quantizers.differentiation import MODES, value_and_gradient
from qframe.testing.strategies import tensors

ELEMENTWISE = [
    "ste_sign",
    "ste_sign(clip_value=None)",
    "approx_sign",
    "swish_sign",
    "ste_heaviside",
    "ste_heaviside(clip_value=None)",
    "noop(precision=8)",
]


quantizer_named = functools.cache(qf.quantizers.get)


def run(name, x, mode="eager"):
    return value_and_gradient(quantizer_named(name), x, np.ones_like(x), mode)


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


# Beyond the conformance kit.


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


def test_sign_of_many_subnormals():
    # A vectorized sign flushes some lanes of these to zero.
    x = np.full(9, 1e-38, "float32")
    np.testing.assert_array_equal(run("ste_sign", x)[0], np.ones(9))
    # They count as zero, on devices that flush them and on those that do not.
    np.testing.assert_array_equal(run("ste_sign", -x)[0], np.ones(9))
    np.testing.assert_array_equal(run("ste_heaviside", x)[0], np.zeros(9))


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
