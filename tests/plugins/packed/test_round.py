"""Uniform quantizers as roundings: equal to the bit, and small."""

import attrs
import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras import layers

import qframe as qf
from examples import settings
from packed_graphs import chain, names_of
from packed_models import check, exported, randomized
from qframe.deployment.graph.operations import Quantize, Round
from qframe.deployment.graph.reference import run
from qframe.deployment.graph.thresholds import as_thresholds
from qframe.deployment.lowering.activations import quantize_of
from qframe.errors import LargeFileWarning
from qframe_packed.compiled.engine import Engine
from qframe_packed.lowering import to_packed

pytestmark = [
    pytest.mark.ends,
    pytest.mark.filterwarnings("ignore::qframe.errors.StarvedWeightsWarning"),
]
# A file is made of weights and configs, which JAX has no part in.
OF_FILES = pytest.mark.two_backends
F = np.float32
SPECIAL = F([np.nan, np.inf, -np.inf, 0, -0.0, 3e38, -3e38, 1e-45, -1e-45])
# With an evenly spaced grid. Each but the last two takes its scale from data.
UNIFORM = (
    "integer(bits={bits}, gather='widest')",
    "integer(bits={bits}, gather='widest', narrow_range=True)",
    "integer(bits={bits}, gather='widest', symmetric=False)",
    "lsq(bits={bits})",
    "lsq(bits={bits}, signed=False)",
    "pact(bits={bits}, alpha={scale})",
    "quantized_bits(bits={bits}, integer={power}, alpha=1.0)",
    "quantized_bits(bits={bits}, integer={power}, alpha=0.3)",
    "quantized_relu(bits={bits}, integer={power})",
    "quantized_tanh(bits={bits})",
    "dorefa(k_bit={bits})",
)


def beside(thresholds):
    """Floats at thresholds, and up to three floats from each."""
    numbers = [thresholds]
    for end in (-np.inf, np.inf):
        near = thresholds
        for _ in range(3):
            near = np.nextafter(near, F(end))
            numbers.append(near)
    return np.concatenate(numbers)


@given(
    identifier=st.sampled_from(UNIFORM),
    bits=st.integers(2, 8),
    scale=st.floats(2.0**-20, 2.0**13, width=32),
    power=st.integers(0, 3),
    seed=st.integers(0, 2**16),
)
@settings(max_examples=30)
def test_a_rounding_is_the_quantizer_itself(identifier, bits, scale, power, seed):
    """At ties, beside thresholds, at drawn floats, at infinity; NaN is the lowest level."""
    rng = np.random.default_rng(seed)
    word = identifier.format(bits=bits, scale=scale, power=power)
    quantizer = qf.quantizers.get(word)
    drawn = (rng.normal(size=(50, 3)) * scale + scale / 3).astype(F)
    if quantizer.traits.ranged:
        quantizer(drawn, training=True)
    quantize = quantize_of(quantizer)
    (node,) = to_packed(chain((1,), quantize)).nodes
    assert isinstance(node.operation, Quantize if bits == 2 else Round)
    levels = np.arange(quantize.low - 2, quantize.low + 2**bits + 2)
    ties = beside(((levels + 0.5) * quantize.scale).astype(F))
    x = np.concatenate([beside(quantize.thresholds), ties, drawn.reshape(-1), SPECIAL[1:]])
    expected = quantizer.integers(x.reshape(-1, 1))
    found = run(node.operation, x.reshape(-1, 1))
    np.testing.assert_array_equal(found, expected.values - expected.zero_point)
    assert run(node.operation, SPECIAL[:1]) == quantize.low


@pytest.mark.parametrize(
    "identifier",
    ["hwgq(bits=4)", "integer(bits=4, gather='widest', rounding='half_up')", "ste_tern"],
)
def test_other_quantizers_keep_their_thresholds(identifier):
    quantizer = qf.quantizers.get(identifier)
    quantizer(np.random.default_rng(0).normal(size=(9, 2)).astype(F), training=True)
    quantize = quantize_of(quantizer)
    (node,) = to_packed(chain((1,), quantize)).nodes
    np.testing.assert_array_equal(node.operation.thresholds, quantize.thresholds)


@pytest.mark.pure
@given(
    low=st.integers(-300, 300),
    count=st.integers(1, 300),
    divisor=st.floats(2.0**-100, 2.0**100, width=32),
    factor=st.sampled_from([1.0, 7.0, 255.0, float(F(0.1))]),
)
@settings(max_examples=60)
def test_thresholds_of_a_rounding_are_exact(low, count, divisor, factor):
    """Also where products overflow, and in the compiled engine."""
    rounding = Round(low, low + count, divisor, factor)
    quantize = as_thresholds(rounding)
    x = np.concatenate([beside(quantize.thresholds), SPECIAL])
    with np.errstate(over="ignore"):
        steps = x * F(factor) / F(divisor)
    expected = np.clip(np.rint(steps), low, low + count)
    expected[np.isnan(x)] = low
    np.testing.assert_array_equal(run(rounding, x), expected)
    np.testing.assert_array_equal(run(quantize, x), expected)
    (levels,) = Engine(chain((len(x), 1), rounding)).predict([x.reshape(1, -1, 1)])
    np.testing.assert_array_equal(levels.reshape(-1), expected)


def small_cnn(depthwise=False):
    """Three convolutions of 3x3 with batch norm and pools, and two dense layers."""
    parts = []
    for channels in (16, 32, 32):
        if depthwise:
            parts.append(layers.DepthwiseConv2D(3, padding="same", use_bias=False))
        size = 1 if depthwise else 3
        parts.append(layers.Conv2D(channels, size, padding="same", use_bias=False))
        parts += [layers.BatchNormalization(), layers.ReLU(), layers.MaxPooling2D()]
    ends = [layers.Flatten(), layers.Dense(64, activation="relu"), layers.Dense(10)]
    return keras.Sequential([keras.Input((28, 28, 1)), *parts, *ends])


def quantized(model, weights, activations, granularity="channel"):
    """The model with quantizers in all of its products, of one number of bits each."""
    kernel = f"integer(bits={weights}, granularity='{granularity}')"
    inputs = f"integer(bits={activations}, symmetric=False, gather='widest')"
    settings = {"input_quantizer": inputs}
    names = {"depthwise_quantizer": kernel}
    rules = [("re:.*depthwise.*", {**settings, **names})]
    rest = ("re:.*", {**settings, "kernel_quantizer": kernel})
    depthwise = any("depthwise" in layer.name for layer in model.layers)
    qf.quantize(randomized(model), [*rules, rest] if depthwise else [rest])
    x = np.random.default_rng(0).uniform(size=(8, *model.input_shape[1:])).astype(F)
    qf.calibrate(model, x, verbose=0)
    return model


@OF_FILES
@pytest.mark.parametrize(
    ("bits", "granularity", "depthwise"),
    [
        ((8, 8), "channel", False),
        ((8, 8), "tensor", True),
        ((4, 8), "channel", True),
        ((4, 4), "channel", False),
        ((2, 2), "tensor", True),
    ],
)
@pytest.mark.filterwarnings("error::qframe.errors.LargeFileWarning")
def test_a_file_has_the_size_of_the_summary(bits, granularity, depthwise, tmp_path):
    model = quantized(small_cnn(depthwise), *bits, granularity)
    path = tmp_path / "m.safetensors"
    qf.export(model, path, target="packed")
    size = path.stat().st_size
    assert size <= 1.05 * qf.models.profile(model).memory / 8 + 4000
    assert size <= 40_000


@OF_FILES
def test_roundings_stay_behind_batch_norm_and_few_thresholds_take_it(tmp_path):
    parts = ["conv2d", "affine", "round", "max_pool"]
    dense = ["dense", "affine", "round", "dense", "affine"]
    eight = exported(quantized(small_cnn(), 8, 8), tmp_path)
    assert names_of(eight.graph) == ["round", *3 * parts, "reshape", *dense]
    two = exported(quantized(small_cnn(), 2, 2), tmp_path)
    parts = ["conv2d", "quantize", "max_pool"]
    dense = ["dense", "quantize", "dense", "affine"]
    assert names_of(two.graph) == ["quantize", *3 * parts, "reshape", *dense]
    shapes = [
        node.operation.thresholds.shape
        for node in two.graph.nodes
        if isinstance(node.operation, Quantize)
    ]
    assert shapes == [(3,), (3, 16), (3, 32), (3, 32), (3, 64)]


@given(weights=st.integers(2, 8), activations=st.integers(3, 8), seed=st.integers(0, 99))
@settings(max_examples=3)
def test_networks_with_roundings(tmp_path_factory, weights, activations, seed):
    """What Keras gives, of the samples whose numbers are not beside a step."""
    parts = [
        layers.Conv2D(3, 3, use_bias=False),
        layers.BatchNormalization(),
        layers.ReLU(),
        layers.Flatten(),
        layers.Dense(4),
    ]
    keras.utils.set_random_seed(seed)
    model = keras.Sequential([keras.Input((5, 5, 2)), *parts])
    model = quantized(model, weights, activations)
    runtime = check(model, tmp_path_factory.mktemp("packed"), rounded=True)
    assert names_of(runtime.graph).count("round") == 2


@OF_FILES
def test_a_file_larger_than_the_float_weights_is_said(tmp_path):
    """255 thresholds for each of 20 small layers, none of which rounds to even."""
    up = "integer(bits=8, gather='widest', rounding='half_up')"
    dense = [qf.layers.QuantDense(4, input_quantizer=up) for _ in range(20)]
    model = keras.Sequential([keras.Input((4,)), *dense])
    x = np.random.default_rng(0).normal(size=(8, 4)).astype(F)
    qf.calibrate(model, x, verbose=0)
    with pytest.warns(LargeFileWarning, match=r"takes 2\d kB, .* take 2 kB as float32"):
        exported(model, tmp_path)


def test_the_ends_of_a_rounding_are_checked():
    rounding = Round(0, 7)
    value = chain((3,), rounding).values()[-1]
    assert (value.span.low, value.span.high, value.span.bits) == (0, 7, 3)
    for wrong in (
        {"high": 0},
        {"high": 2**16},
        {"divisor": 0.0},
        {"divisor": -1.0},
        {"divisor": 0.3},
        {"divisor": 2.0**111},
        {"factor": float("nan")},
        {"factor": float("inf")},
    ):
        with pytest.raises(qf.errors.DataError):
            chain((3,), attrs.evolve(rounding, **wrong)).values()
    with pytest.raises(qf.errors.DataError, match="it takes floats, found integers"):
        chain((3,), rounding, rounding).values()
