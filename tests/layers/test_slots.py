"""The slots of layers and models, and whether a quantizer in one sees a batch."""

import keras
import numpy as np
import pytest

import qframe as qf
from qframe.errors import ArgumentError
from qframe.layers.adapters import EXPLICIT
from qframe.layers.slots import filled_slots, slot_of, slots_of
from qframe.layers.tree import iter_slots

# By hand, of each layer: the name of a slot, the attribute and the channel axis.
CONVOLUTION = [("input", None, -1), ("kernel", "kernel", -1), ("bias", "bias", None)]
EINSUM = [("input", None, -1), ("kernel", "kernel", 1), ("bias", "bias", None)]
FIRST = [("input", None, 1), ("kernel", "kernel", -2), ("bias", "bias", None)]
DEPTHWISE = [("input", None, -1), ("depthwise", "kernel", (-2, -1)), ("bias", "bias", None)]
SEPARABLE = [
    ("input", None, -1),
    ("depthwise", "depthwise_kernel", (-2, -1)),
    ("pointwise", "pointwise_kernel", -1),
    ("bias", "bias", None),
]
CELL = [
    ("input", None, -1),
    ("kernel", "kernel", -1),
    ("recurrent", "recurrent_kernel", -1),
    ("bias", "bias", None),
]
LAYERS = [
    (keras.layers.Dense(2), (3,), CONVOLUTION),
    (keras.layers.EinsumDense("ab,bc->ac", 4, bias_axes="c"), (3,), EINSUM),
    (
        keras.layers.Conv2DTranspose(2, 2, data_format="channels_first"),
        (1, 4, 4),
        FIRST,
    ),
    (keras.layers.DepthwiseConv2D(2), (4, 4, 1), DEPTHWISE),
    (keras.layers.SeparableConv1D(2, 2), (4, 1), SEPARABLE),
    (keras.layers.Embedding(5, 2), (4,), [("input", None, -1), ("embeddings",) * 2 + (0,)]),
    (keras.layers.GRUCell(2), (3,), CELL),
]


def rows():
    rng = np.random.default_rng(0)
    return (rng.normal(size=(9, 6)) * 10.0 ** rng.integers(-2, 2, (9, 6))).astype("float32")


def run(make, x, **changes):
    """Return the outputs of a layer whose quantizers come from `make`, and the layer."""
    settings = {"input_quantizer": make(), "kernel_quantizer": make(), **changes}
    layer = qf.layers.QuantDense(6, use_bias=False, **settings)
    model = keras.Sequential([keras.Input((6,)), layer])
    layer.kernel.assign(rows()[:6].T)
    return keras.ops.convert_to_numpy(model(x)), layer


def test_blocks_are_those_of_the_slot_whatever_the_quantizer_was_used_for():
    x, other = rows(), rows()[::-1].copy()
    expected, _ = run(lambda: qf.quantizers.get("mxfp4"), x)
    # Rows of a batch have no influence on each other, which columns of a kernel have.
    assert (run(lambda: qf.quantizers.get("mxfp4(axis=0)"), x)[0] != expected).any()

    def used():
        quantizer = qf.quantizers.get("mxfp4")
        quantizer(other)
        return quantizer

    np.testing.assert_array_equal(run(used, x)[0], expected)
    one = qf.quantizers.get("mxfp4")
    actual, layer = run(lambda: one, x)
    np.testing.assert_array_equal(actual, expected)
    assert layer.input_quantizer.batched
    assert not layer.kernel_quantizer.batched
    # And by rules, which share what has no state.
    dense = keras.layers.Dense(6, use_bias=False)
    model = keras.Sequential([keras.Input((6,)), dense])
    dense.kernel.assign(rows()[:6].T)
    settings = {"kernel_quantizer": one, "input_quantizer": one}
    qf.quantize(model, settings)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(model(x)), expected)


@pytest.mark.parametrize(
    ("settings", "aggregation"),
    [
        ({}, "mean"),
        ({"dtype": "int32"}, "only_first_replica"),
        ({"aggregation": "sum"}, "sum"),
    ],
)
def test_replicas_agree_on_the_state_of_a_quantizer(settings, aggregation):
    quantizer = qf.quantizers.get("ste_sign")
    variable = quantizer.add_weight(
        shape=(), initializer="zeros", trainable=False, **settings
    )
    assert variable.aggregation == aggregation
    learned = quantizer.add_weight(shape=(), initializer="zeros")
    plain = keras.layers.Dense(2).add_weight(shape=(), initializer="zeros")
    assert learned.aggregation == plain.aggregation


def test_the_attribute_of_a_slot_takes_what_its_argument_takes():
    layer = qf.layers.QuantDense(2, kernel_quantizer="lsq")
    for wrong in (3, 0.5, ["ste_sign"]):
        with pytest.raises(ArgumentError, match=r"a quantizer is .*found"):
            layer.kernel_quantizer = wrong
        assert isinstance(layer.kernel_quantizer, qf.quantizers.LSQ)
    layer.kernel_quantizer = "ste_sign"
    assert isinstance(layer.kernel_quantizer, qf.quantizers.SteSign)
    layer.kernel_quantizer = None
    assert not layer.quantizers


def test_one_object_stays_one_in_slots_of_a_kind():
    one = qf.quantizers.get("ste_sign(clip_value=None)")
    layers = [qf.layers.QuantDense(2, input_quantizer=one) for _ in range(2)]
    assert all(layer.input_quantizer is one for layer in layers)


@pytest.mark.parametrize("before", ["kernel", "input"])
def test_quantizer_with_state_of_a_weight_is_refused_for_activations(before):
    after = {"kernel": "input", "input": "kernel"}[before]
    quantizer = qf.quantizers.get("lsq")
    layer = qf.layers.QuantDense(2, **{f"{before}_quantizer": quantizer})
    layer.build((None, 3))
    assert quantizer.batched is (before == "input")
    with pytest.raises(ArgumentError, match="Give that slot a separate quantizer"):
        layer.quantizers[after] = quantizer
    assert list(layer.quantizers) == [before]


@pytest.mark.parametrize(
    ("layer", "shape", "expected"),
    LAYERS,
    ids=[type(layer).__name__ for layer, *_ in LAYERS],
)
@pytest.mark.parametrize("quantized", [False, True])
def test_slots_of_a_layer_are_those_of_a_list_by_hand(layer, shape, expected, quantized):
    layer = type(layer).from_config(layer.get_config())
    weights = [name for name, *_ in expected]
    fuses = isinstance(layer, tuple(EXPLICIT)) and hasattr(layer, "activation")
    names = [*weights, *["preactivation"] * fuses, "output"]
    assert [slot.variable for slot in slots_of(layer)] == [None] * len(names)
    layer.build((None, *shape))
    last = weights[-1]
    if quantized:
        qf.quantize(layer, {f"{last}_quantizer": "noop(precision=3)"})
    slots = slots_of(layer)
    assert [slot.name for slot in slots] == names
    assert [slot.key for slot in slots] == [f"{name}_quantizer" for name in names]
    for slot, (_, attribute, axis) in zip(slots, expected, strict=False):
        assert slot.is_activation == (attribute is None)
        assert slot.variable is (attribute and getattr(layer, attribute))
        assert np.atleast_1d(slot.channel_axis).tolist() == np.atleast_1d(axis).tolist()
    assert slots[-1].is_activation
    filled = [slot.name for slot in slots if slot.quantizer is not None]
    assert filled == [slot.name for slot in filled_slots(layer)] == [last] * quantized
    if quantized:
        assert slot_of(layer, last).quantizer is layer.quantizers[last]


def test_slots_of_a_model_are_in_call_order_each_once_with_their_paths():
    shared = keras.layers.Dense(3, use_bias=False, name="shared")
    inner = keras.Sequential([keras.Input((3,)), shared], name="inner")
    x = keras.Input((3,))
    alone = qf.quantizers.get("ste_sign(clip_value=None)")
    y = alone(shared(inner(x)))
    model = keras.Model(x, keras.layers.Dense(2, name="head")(y))
    settings = {f"{name}_quantizer": "noop(precision=3)" for name in ("input", "kernel")}
    qf.quantize(
        model, [("re:inner", settings), ("re:head", {"output_quantizer": "ste_sign"})]
    )
    actual = [(slot.path, slot.name, slot.variable) for slot in iter_slots(model)]
    assert actual == [
        ("inner/shared", "input", None),
        ("inner/shared", "kernel", shared.kernel),
        (alone.name, "", None),
        ("head", "output", None),
    ]
    kernel = [slot for slot in iter_slots(model) if slot.name == "kernel"]
    assert [slot.variable_path for slot in kernel] == ["inner/shared/kernel"]
    plain = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    assert list(iter_slots(plain)) == []
