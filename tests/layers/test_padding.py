"""pad_values against padding by hand."""

import keras
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import qframe as qf
from examples import settings
from qframe.errors import ArgumentError

CLASSES = {
    "Conv1D": 1,
    "Conv2D": 2,
    "Conv3D": 3,
    "DepthwiseConv1D": 1,
    "DepthwiseConv2D": 2,
    "SeparableConv1D": 1,
    "SeparableConv2D": 2,
}


def padded(x, kernel, strides, dilation, value, data_format):
    """x with the padding of "same", from the definition: out = ceil(n / stride)."""
    first = 1 if data_format == "channels_last" else 2
    widths = [(0, 0)] * x.ndim
    for axis, (k, s, d) in enumerate(zip(kernel, strides, dilation, strict=True)):
        n = x.shape[first + axis]
        total = max((int(np.ceil(n / s)) - 1) * s + d * (k - 1) + 1 - n, 0)
        widths[first + axis] = (total // 2, total - total // 2)
    return np.pad(x, widths, constant_values=value)


def first_supported(data_format):
    # TensorFlow has no channels_first convolution on CPU.
    return data_format == "channels_last" or keras.backend.backend() != "tensorflow"


@st.composite
def configurations(draw):
    name = draw(st.sampled_from(sorted(CLASSES)))
    rank = CLASSES[name]
    sizes = draw(st.tuples(*[st.integers(4, 8)] * rank))
    kernel = draw(st.tuples(*[st.integers(1, 4)] * rank))
    stride = draw(st.integers(1, 3))
    dilation = draw(st.integers(1, 2)) if stride == 1 else 1
    data_format = draw(st.sampled_from(["channels_last", "channels_first"]))
    assume(first_supported(data_format))
    assume(all((k - 1) * dilation + 1 <= n for k, n in zip(kernel, sizes, strict=True)))
    return name, sizes, kernel, (stride,) * rank, (dilation,) * rank, data_format


@given(configurations(), st.sampled_from([1.0, -1.0, 0.5]), st.booleans())
@settings(max_examples=60)
def test_equals_valid_on_a_padded_input(configuration, value, static):
    name, sizes, kernel, strides, dilation, data_format = configuration
    arguments = {
        "kernel_size": kernel,
        "strides": strides,
        "dilation_rate": dilation,
        "data_format": data_format,
        **({} if name.startswith("Depthwise") else {"filters": 2}),
    }
    layer = getattr(qf.layers, f"Quant{name}")(
        padding="same", pad_values=value, input_quantizer="ste_sign", **arguments
    )
    plain = getattr(keras.layers, name)(padding="valid", **arguments)
    x = np.random.default_rng(0).normal(size=(2, *sizes, 2)).astype("float32")
    spatial = sizes if static else (None,) * len(sizes)
    shape = (*spatial, 2)
    if data_format == "channels_first":
        x, shape = np.moveaxis(x, -1, 1), (2, *spatial)
    model = keras.Sequential([keras.Input(shape), layer])
    plain.build(x.shape)
    plain.set_weights(model.get_weights())
    signs = np.where(x >= 0, 1, -1).astype("float32")
    by_hand = plain(padded(signs, kernel, strides, dilation, value, data_format))
    actual = model(x)
    assert tuple(actual.shape) == tuple(layer.compute_output_shape(x.shape))
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(actual),
        keras.ops.convert_to_numpy(by_hand),
        rtol=1e-4,
        atol=1e-5,
    )


def test_zero_is_keras_padding():
    layer = qf.layers.QuantConv2D(2, 3, padding="same", pad_values=0)
    plain = keras.layers.Conv2D(2, 3, padding="same")
    x = np.random.default_rng(0).normal(size=(1, 5, 5, 1)).astype("float32")
    layer.build(x.shape)
    plain.build(x.shape)
    plain.set_weights(layer.get_weights())
    np.testing.assert_array_equal(
        keras.ops.convert_to_numpy(layer(x)), keras.ops.convert_to_numpy(plain(x))
    )


def test_unknown_sizes_in_a_graph():
    model = keras.Sequential(
        [
            keras.Input((None, None, 1)),
            qf.layers.QuantConv2D(2, 3, strides=2, padding="same", pad_values=1.0),
        ]
    )
    model.compile("sgd", "mse")
    for size in (4, 5, 7):
        x = np.ones((2, size, size + 1, 1), "float32")
        expected = keras.ops.convert_to_numpy(model.layers[0](x))
        np.testing.assert_allclose(model.predict(x, verbose=0), expected, rtol=1e-5)


def test_survives_a_config_round_trip():
    layer = qf.layers.QuantConv1D(2, 3, padding="same", pad_values=-1.0)
    assert type(layer).from_config(layer.get_config()).pad_values == -1.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"padding": "causal", "pad_values": 1.0}, "cannot go with padding='causal'"),
        ({"padding": "same", "pad_values": "one"}, "must be a number, found 'one'"),
    ],
)
def test_misuse(arguments, message):
    with pytest.raises(ArgumentError, match=message):
        qf.layers.QuantConv1D(2, 3, **arguments)
    with pytest.raises((ArgumentError, ValueError)):
        qf.layers.QuantConv2DTranspose(2, 3, pad_values=1.0)
