"""What a quantizer in a slot is told: whether its first axis is the batch."""

import keras
import numpy as np
import pytest

import qframe as qf
from qframe.errors import ArgumentError


def rows():
    rng = np.random.default_rng(0)
    return (rng.normal(size=(9, 6)) * 10.0 ** rng.integers(-2, 2, (9, 6))).astype("float32")


def run(make, x, **changes):
    """What a layer returns, whose quantizers come from `make`."""
    words = {"input_quantizer": make(), "kernel_quantizer": make(), **changes}
    layer = qf.layers.QuantDense(6, use_bias=False, **words)
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
    found, layer = run(lambda: one, x)
    np.testing.assert_array_equal(found, expected)
    assert layer.input_quantizer.batched
    assert not layer.kernel_quantizer.batched
    # And by rules, which share what has no state.
    dense = keras.layers.Dense(6, use_bias=False)
    model = keras.Sequential([keras.Input((6,)), dense])
    dense.kernel.assign(rows()[:6].T)
    words = {"kernel_quantizer": one, "input_quantizer": one}
    qf.quantize(model, words)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(model(x)), expected)


@pytest.mark.parametrize(
    ("words", "aggregation"),
    [
        ({}, "mean"),
        ({"dtype": "int32"}, "only_first_replica"),
        ({"aggregation": "sum"}, "sum"),
    ],
)
def test_replicas_agree_on_the_state_of_a_quantizer(words, aggregation):
    quantizer = qf.quantizers.get("ste_sign")
    variable = quantizer.add_weight(shape=(), initializer="zeros", trainable=False, **words)
    assert variable.aggregation == aggregation
    learned = quantizer.add_weight(shape=(), initializer="zeros")
    plain = keras.layers.Dense(2).add_weight(shape=(), initializer="zeros")
    assert learned.aggregation == plain.aggregation


def test_one_object_stays_one_in_slots_of_a_kind():
    one = qf.quantizers.get("ste_sign(clip_value=None)")
    layers = [qf.layers.QuantDense(2, input_quantizer=one) for _ in range(2)]
    assert all(layer.input_quantizer is one for layer in layers)


@pytest.mark.parametrize("before", ["kernel", "input"])
def test_what_has_learned_from_a_weight_is_not_for_activations(before):
    after = {"kernel": "input", "input": "kernel"}[before]
    quantizer = qf.quantizers.get("lsq")
    layer = qf.layers.QuantDense(2, **{f"{before}_quantizer": quantizer})
    layer.build((None, 3))
    assert quantizer.batched is (before == "input")
    with pytest.raises(ArgumentError, match="Give that slot a quantizer of its own"):
        layer.quantizers[after] = quantizer
    assert list(layer.quantizers) == [before]
