"""The integers of quantized weights: what they are, and that they give the values back."""

import math

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import qframe as qf
from examples import settings
from qframe.errors import ArgumentError, QFrameError
from qframe.quantizers import Groups, Quantizer, Traits
from topology_models import TOPOLOGIES


class Grid(Quantizer):
    """Three levels, evenly spaced, of which none is an integer."""

    precision = 2

    @property
    def traits(self):
        return Traits(levels=(-0.75, 0.0, 0.75))

    def value(self, inputs):
        return 0.75 * keras.ops.sign(inputs)


class Affine(Quantizer):
    """Unsigned 8 bits around a zero point of 100."""

    precision = 8

    def value(self, inputs):
        codes = keras.ops.clip(keras.ops.round(inputs / 0.5) + 100, 0, 255)
        return (codes - 100) * 0.5

    def affine(self, inputs):
        return 0.5, 100


class OffGrid(Affine):
    def affine(self, inputs):
        return 0.3, 0


def kernel_of(quantizer, kernel):
    kernel = np.asarray(kernel, "float32")
    dense = keras.layers.Dense(kernel.shape[1], use_bias=False, name="head")
    model = keras.Sequential([keras.Input((kernel.shape[0],)), dense])
    model.set_weights([kernel])
    qf.quantize(model, {"kernel_quantizer": quantizer})
    ((path, result),) = qf.integers(model).items()
    assert path == "head/kernel"
    return result


@pytest.mark.parametrize(
    ("quantizer", "kernel", "values", "scale", "zero_point"),
    [
        ("ste_sign", [[0.3, -2], [-0.0, -1]], [[1, -1], [1, -1]], 1, 0),
        ("ste_heaviside", [[0.3, -2], [0, 5]], [[1, 0], [0, 1]], 1, 0),
        # The means of |w| over the inputs of each output.
        ("magnitude_aware_sign", [[1, -4], [-3, 2]], [[1, -1], [-1, 1]], [[2, 3]], 0),
        # A channel of zeros has a scale of 0, and +1 as any other weight that is >= 0.
        ("magnitude_aware_sign", [[1, 0], [-3, 0]], [[1, 1], [-1, 1]], [[2, 0]], 0),
        (Grid(), [[3, -2], [0, 5]], [[1, -1], [0, 1]], 0.75, 0),
        (Affine(), [[0.6, -70], [0, 100]], [[101, 0], [100, 255]], 0.5, 100),
    ],
)
def test_golden_numbers(quantizer, kernel, values, scale, zero_point):
    actual = kernel_of(quantizer, kernel)
    np.testing.assert_array_equal(actual.values, values)
    np.testing.assert_array_equal(actual.scale, scale)
    np.testing.assert_array_equal(actual.zero_point, zero_point)
    assert actual.values.dtype == (np.int16 if np.max(values) > 127 else np.int8)
    assert actual.scale.dtype == np.float32
    assert actual.zero_point.dtype == np.int32
    assert actual.precision == qf.quantizers.get(quantizer).precision


def test_a_weight_without_numbers_has_integers_without_numbers():
    actual = qf.quantizers.get("ste_sign").integers(np.zeros((0, 2), "float32"))
    assert actual.values.shape == actual.dequantized().shape == (0, 2)


# The conformance kit does the same with every quantizer, on one axis.
@pytest.mark.parametrize(
    "name", ["ste_sign", "ste_heaviside", "magnitude_aware_sign", "dorefa(mode='weights')"]
)
@given(
    kernel=hnp.arrays("float32", (3, 2), elements=st.floats(-4, 4, width=32)),
    axis=st.sampled_from([-1, 0, (0, 1), None]),
)
@settings(max_examples=20)
def test_integers_give_the_quantized_values_back(name, kernel, axis):
    quantizer = qf.quantizers.get(name)
    actual = quantizer.integers(kernel, channel_axis=axis)
    channelwise = {"channel_axis": axis} if quantizer.traits.channelwise else {}
    value = keras.ops.convert_to_numpy(quantizer(kernel, **channelwise))
    np.testing.assert_allclose(actual.dequantized(), value, rtol=1e-6, atol=1e-37)


@pytest.mark.long
@pytest.mark.one_case_in(5)
@pytest.mark.parametrize("topology", TOPOLOGIES, ids=str)
def test_every_topology(topology):
    model = topology.model()
    report = qf.quantize(model, {"weight_quantizer": "magnitude_aware_sign"})
    actual = qf.integers(model)
    # A layer has as many as it has weights with a quantizer.
    assert len(actual) == sum(len(row.settings) for row in report.quantized)
    for row in report.quantized:
        assert any(path.startswith(f"{row.path}/") for path in actual)
    with qf.context.quantized_scope(True):
        saved = [np.abs(w).ravel() for w in model.get_weights()]
    shipped = [np.abs(f.dequantized()).ravel() for f in actual.values()]
    for weight in shipped:
        assert any(w.shape == weight.shape and np.allclose(w, weight) for w in saved)


def test_a_quantizer_without_integers_is_an_error_or_left_out():
    model = keras.Sequential(
        [
            keras.Input((3,)),
            keras.layers.Dense(2, name="a"),
            keras.layers.Dense(2, name="b"),
        ]
    )
    rules = [("re:a", {"kernel_quantizer": "noop(precision=4)"})]
    qf.quantize(model, [*rules, ("re:b", {"kernel_quantizer": "ste_sign"})])
    with pytest.raises(
        QFrameError, match=r"'a/kernel': .*states no integers.* strict=False"
    ):
        qf.integers(model)
    assert list(qf.integers(model, strict=False)) == ["b/kernel"]
    model.get_layer("a").quantizers["kernel"] = lambda kernel: kernel
    with pytest.raises(QFrameError, match="is not a qframe quantizer"):
        qf.integers(model)


def test_a_wrong_affine_is_found():
    with pytest.raises(QFrameError, match="not on the grid that its `affine` states"):
        kernel_of(OffGrid(), [[0.6, 1.0]])


def test_weights_that_are_not_finite():
    with pytest.raises(QFrameError, match="not finite"):
        kernel_of("ste_sign", [[0.6, np.nan]])


def test_a_float_model_has_none():
    with pytest.raises(ArgumentError, match="no weight of 'plain' is quantized"):
        qf.integers(
            keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)], name="plain")
        )


@given(data=st.data())
def test_groups_are_compact_and_come_back(data):
    shape = tuple(data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=4)))
    axes = tuple(a for a in range(len(shape)) if data.draw(st.booleans()))
    groups = Groups(axes, data.draw(st.integers(1, 9)))
    others = [n for a, n in enumerate(shape) if a not in axes]
    count = -(-math.prod(shape[a] for a in axes) // groups.size)
    compact = np.random.default_rng(0).normal(size=[*others, count])
    assert groups.count(shape) == compact.size
    spread = groups.spread(compact, shape)
    np.testing.assert_array_equal(groups.compact(spread), compact)
    # One by one: the place of a number among those of its channel, row by row.
    for place in np.ndindex(shape):
        along, among = [place[a] for a in axes], [shape[a] for a in axes]
        number = int(np.ravel_multi_index(along, among)) if axes else 0
        row = tuple(place[a] for a in range(len(shape)) if a not in axes)
        assert spread[place] == compact[(*row, number // groups.size)]


# Bits of the scales of a kernel of 3 x 3 x 20 inputs and 8 outputs, by hand.
SCALE_BITS = {
    "ste_sign": 0,
    "lsq(bits=4)": 0,  # a variable, which counts for itself
    "dorefa(k_bit=4)": 0,
    "magnitude_aware_sign": 8 * 32,
    "dorefa_sign": 32,
    "integer(bits=4)": 32,
    "integer(bits=4, symmetric=False)": 32 + 4,
    "integer(symmetric=False)": 32 + 8,
    "integer(bits=4, granularity='channel')": 8 * 32,
    "integer(bits=4, granularity='channel', symmetric=False)": 8 * (32 + 4),
    # 180 numbers of a channel are five groups of 32 and one of 20.
    "integer(bits=4, granularity='group', group_size=32)": 8 * 6 * 32,
    "integer(bits=4, granularity='group', group_size=32, symmetric=False)": 8 * 6 * 36,
    "mxfp4": 8 * 6 * 8,
    "mxint8(block_size=180)": 8 * 8,
    "float8_e4m3": 0,
    "float8_e4m3(scale='channel')": 8 * 32,
    "quantized_bits(bits=4, alpha='auto')": 8 * 32,
    "quantized_bits(bits=4, alpha=0.5)": 0,
}


@pytest.mark.parametrize("name", SCALE_BITS)
def test_a_profile_counts_the_scales(name):
    layer = keras.layers.Conv2D(8, 3, use_bias=False)
    model = keras.Sequential([keras.Input((5, 5, 20)), layer])
    qf.quantize(model, {"kernel_quantizer": name})
    weight = qf.models.profile(model).layers[0].weights[0]
    assert weight.scale_bits == SCALE_BITS[name]
    elements = 3 * 3 * 20 * 8 * layer.kernel_quantizer.precision
    assert weight.memory == elements + SCALE_BITS[name]
    actual = qf.integers(model)["conv2d/kernel"]
    sizes = {"mxfp4": 48, "integer(bits=4, granularity='group', group_size=32)": 48}
    assert actual.scale.size == sizes.get(name, actual.scale.size)
    assert actual.scale.size <= 48
    quantized = layer.quantized_weights()["kernel"]
    np.testing.assert_allclose(
        actual.dequantized(), keras.ops.convert_to_numpy(quantized), rtol=1e-6, atol=1e-7
    )


def test_a_zero_point_at_the_end_of_the_grid():
    x = np.linspace(0, 1, 6, dtype="float32")[:, None]
    actual = qf.quantizers.get("integer(symmetric=False)").integers(x)
    assert actual.zero_point == -128
    np.testing.assert_allclose(actual.dequantized(), x, atol=1e-6)
