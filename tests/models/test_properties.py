"""Properties of profiles of any model."""

import itertools
import math

import keras
from hypothesis import given
from hypothesis import strategies as st
from keras import layers

import qframe as qf
from examples import settings

some = settings(max_examples=25)


def taps(size, kernel, stride, padding, dilation):
    """The positions of a kernel along an axis, with one product each."""
    reach = dilation * (kernel - 1) + 1
    if padding == "same":
        return range(0, size, stride)
    return range(0, size - reach + 1, stride)


def count_convolution(sizes, channels, filters, groups, kernel, stride, padding, dilation):
    """One by one: places, elements of the kernel, channels of the group, filters."""
    places = itertools.product(
        *(taps(size, kernel, stride, padding, dilation) for size in sizes)
    )
    each = itertools.product(
        *(range(kernel) for _ in sizes), range(channels // groups), range(filters)
    )
    return sum(1 for _ in places) * sum(1 for _ in each)


@st.composite
def convolutions(draw):
    rank = draw(st.integers(1, 3))
    groups = draw(st.integers(1, 2))
    stride = draw(st.integers(1, 2))
    return {
        "sizes": tuple(draw(st.integers(4, 6)) for _ in range(rank)),
        "channels": groups * draw(st.integers(1, 2)),
        "filters": groups * draw(st.integers(1, 2)),
        "groups": groups,
        "kernel": draw(st.integers(1, 2)),
        "stride": stride,
        "padding": draw(st.sampled_from(["same", "valid"])),
        "dilation": draw(st.integers(1, 2)) if stride == 1 else 1,
    }


@given(convolutions(), st.booleans(), st.booleans())
@some
def test_convolutions(config, channels_first, use_bias):
    rank = len(config["sizes"])
    layer = getattr(layers, f"Conv{rank}D")(
        config["filters"],
        config["kernel"],
        strides=config["stride"],
        padding=config["padding"],
        dilation_rate=config["dilation"],
        groups=config["groups"],
        data_format="channels_first" if channels_first else "channels_last",
        use_bias=use_bias,
    )
    channels = (config["channels"],)
    shape = (
        (*channels, *config["sizes"]) if channels_first else (*config["sizes"], *channels)
    )
    inputs = keras.Input(shape)
    model = keras.Model(inputs, layer(inputs))
    profile = qf.models.profile(model)
    assert profile.mac_count() == count_convolution(**config)
    assert profile.parameter_count() == model.count_params()


@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.integers(1, 4))
@some
def test_dense(shape, units):
    inputs = keras.Input(shape)
    model = keras.Model(inputs, layers.Dense(units)(inputs))
    by_hand = sum(1 for _ in itertools.product(*map(range, (*shape, units))))
    assert qf.models.profile(model).mac_count() == by_hand


@st.composite
def networks(draw, shared=True):
    """A functional model with branches, nested models and perhaps shared layers."""
    width = draw(st.integers(1, 4))
    inputs = keras.Input((width,))
    tensors = [inputs]
    pool = [
        layers.Dense(width),
        layers.LayerNormalization(),
        layers.Activation(qf.quantizers.NoOp(precision=draw(st.integers(1, 8)))),
        qf.layers.QuantDense(
            width,
            kernel_quantizer=qf.quantizers.NoOp(precision=draw(st.integers(1, 8))),
            input_quantizer=draw(st.sampled_from([None, qf.quantizers.NoOp(4)])),
        ),
        keras.Sequential([keras.Input((width,)), layers.Dense(width), layers.ReLU()]),
    ]
    for _ in range(draw(st.integers(1, 4))):
        index = draw(st.integers(0, len(pool) - 1))
        layer = pool[index] if shared else pool.pop(index)
        tensors.append(layer(draw(st.sampled_from(tensors))))
    return keras.Model(inputs, tensors)


@given(networks())
@some
def test_sums(model):
    profile = qf.models.profile(model)
    assert profile.parameter_count() == model.count_params()
    by_bits = [profile.parameter_count(bits) for bits in profile.weight_bits]
    assert sum(by_bits) == profile.parameter_count()
    by_precision = [profile.mac_count(bits) for bits in profile.mac_precisions]
    assert sum(by_precision) == profile.mac_count()
    assert profile.mac_count() == sum(layer.mac_count() for layer in profile.layers)
    trainable = sum(math.prod(w.shape) for w in model.trainable_weights)
    assert profile.parameter_count(trainable=True) == trainable
    assert profile.memory <= profile.float_memory


@given(networks(shared=False))  # Keras 3.5 does not load all that share a layer
@settings(max_examples=5)
def test_same_after_saving(tmp_path_factory, model):
    path = tmp_path_factory.mktemp("saved") / "model.keras"
    model.save(path)
    assert qf.models.profile(qf.load_model(path)) == qf.models.profile(model)
