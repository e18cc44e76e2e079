"""Layers that are not as Keras makes them: what is quantized, what is refused, and why."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import qframe as qf
from fitting import WITHOUT_XLA
from fresh_process import quantized
from lifecycle import SETTINGS, classes, same, values
from qframe.errors import ArgumentError, NotBuiltError, QFrameError
from topology_models import Scale

SIGN = {"weight_quantizer": "ste_sign"}
# Whole numbers, so that sums of signs are exact.
X = np.random.default_rng(0).integers(-4, 5, (3, 8)).astype("float32")


def network(*parts):
    return keras.Sequential([keras.Input((8,)), *parts])


def signs(x):
    return np.where(x < 0, -1, 1).astype("float32")


def outputs(model):
    return ops.convert_to_numpy(model(X))


def refused(model, rules, error, match):
    """Raise unless planning and quantizing are refused and change nothing."""
    before, weights = classes(model), values(model.weights)
    for function in (qf.plan, qf.quantize):
        with pytest.raises(error, match=match):
            function(model, rules)
    assert classes(model) == before
    same(values(model.weights), weights)


# --- Quantizers.


def test_a_quantizer_that_keeps_only_the_rank_is_refused():
    class Mean(qf.quantizers.Quantizer):
        def call(self, inputs):
            return ops.mean(inputs, axis=0, keepdims=True)

    for quantizer in (Mean(), lambda w: ops.mean(w, axis=0, keepdims=True)):
        settings = {"kernel_quantizer": quantizer}
        refused(network(layers.Dense(4)), settings, QFrameError, "changed the shape")


def test_a_function_may_know_the_shape_it_is_for():
    scale = np.array([1.0, 2.0, 3.0, 4.0], "float32")
    model = network(layers.Dense(4))
    kernel, _ = model.get_weights()
    qf.quantize(model, {"kernel_quantizer": lambda w: ops.multiply(ops.sign(w), scale)})
    np.testing.assert_array_equal(outputs(model), X @ (np.sign(kernel) * scale))


@pytest.mark.parametrize(
    ("make", "shape", "expected"),
    [
        (Scale, (8,), (None, 4)),
        (lambda: layers.SimpleRNN(4), (3, 8), (None, 4)),
        (lambda: layers.ConvLSTM1D(2, 2), (3, 6, 2), (None, 5, 2)),
    ],
    ids=["custom layer", "cell", "cell of a convolution"],
)
def test_the_output_of_what_does_not_say_its_shape_can_be_quantized(make, shape, expected):
    class Learned(qf.quantizers.Quantizer):
        def build(self, shape):
            self.recorded = tuple(shape)
            self.step = self.add_weight(name="step", shape=(), initializer="ones")

        def call(self, inputs):
            return ops.sign(inputs) * self.step

    part = make()
    model = keras.Sequential([keras.Input(shape), part])
    qf.quantize(model, {"output_quantizer": Learned()})
    assert getattr(part, "cell", part).output_quantizer.recorded == expected
    actual = ops.convert_to_numpy(model(np.ones((2, *shape), "float32")))
    assert set(np.unique(actual)) <= {-1.0, 0.0, 1.0}


# --- Constraints.


def test_a_constraint_of_a_layer_that_has_no_argument_for_it_is_taken_away_again():
    model = network(Scale(name="scale"))
    scale = model.get_layer("scale")
    before = set(vars(scale))
    qf.quantize(model, SETTINGS)
    assert scale.w.constraint is scale.kernel_constraint is not None
    qf.strip(model)
    assert set(vars(scale)) == before
    assert scale.w.constraint is None


def test_a_constraint_that_only_the_variable_has_comes_back():
    model = network(layers.Dense(4))
    (dense,) = model.layers
    dense.kernel.constraint = mine = keras.constraints.NonNeg()
    qf.quantize(model, SETTINGS)
    assert dense.kernel.constraint is not mine
    qf.strip(model)
    assert dense.kernel.constraint is mine
    assert dense.kernel_constraint is None


def test_rules_without_a_constraint_take_that_of_earlier_ones_away():
    model = network(layers.Dense(4, kernel_constraint="non_neg"))
    (dense,) = model.layers
    mine = dense.kernel_constraint
    qf.quantize(model, SETTINGS)
    qf.quantize(model, SIGN)
    assert dense.kernel_constraint is dense.kernel.constraint is mine


# --- States of layers.


def test_a_frozen_layer_is_quantized_and_stays_frozen():
    model = network(layers.Dense(4, trainable=False), layers.Dense(2))
    before = model.layers[0].get_weights()
    assert len(qf.quantize(model, SETTINGS).quantized) == 2
    assert len(model.trainable_variables) == 2
    model.compile("sgd", "mse", jit_compile=False)
    model.fit(X, np.zeros((3, 2)), verbose=0)
    same(model.layers[0].get_weights(), before)
    assert not model.layers[0].trainable


def test_a_bias_that_is_not_there():
    model = network(layers.Dense(4, use_bias=False), layers.Dense(2))
    settings = {"bias_quantizer": "ste_sign", "bias_constraint": "weight_clip"}
    report = qf.quantize(model, settings)
    assert [row.path for row in report.quantized] == [model.layers[1].name]
    (row,) = report.skipped
    assert row.reason == "it has no bias_quantizer; it takes kernel_quantizer"
    both = qf.quantize(model, {**SIGN, **settings})
    assert [len(row.settings) for row in both.quantized] == [1, 3]
    (k,), (kernel, bias) = (layer.get_weights() for layer in model.layers)
    expected = X @ signs(k) @ signs(kernel) + signs(bias)
    np.testing.assert_array_equal(outputs(model), expected)


def test_a_layer_that_no_call_has_built():
    class Partial(keras.Model):
        def __init__(self):
            super().__init__()
            self.used, self.unused = layers.Dense(4), layers.Dense(4, name="unused")

        def call(self, x):
            return self.used(x)

    model = Partial()
    model(X)
    refused(model, SETTINGS, NotBuiltError, "'unused' is not built")
    model.unused.build((None, 8))
    assert len(qf.quantize(model, SETTINGS).quantized) == 2


def test_a_single_layer():
    dense = layers.Dense(4)
    refused(dense, SETTINGS, NotBuiltError, "is not built")
    dense.build((None, 8))
    qf.quantize(dense, SETTINGS)
    np.testing.assert_array_equal(outputs(dense), X @ signs(dense.get_weights()[0]))
    qf.strip(dense)
    assert type(dense) is layers.Dense


# --- Quantized by Keras.


def test_layers_quantized_by_keras_are_skipped_and_reported():
    model = network(layers.Dense(4, name="a"), layers.Dense(2, name="b"))
    model.quantize("int8")
    before, variables = outputs(model), values(model.weights)
    report = qf.quantize(model, SETTINGS)
    assert not report.quantized
    reason = "Keras quantized it to int8 already"
    assert [(row.path, row.reason) for row in report.skipped] == [
        ("a", reason),
        ("b", reason),
    ]
    same([outputs(model), *values(model.weights)], [before, *variables])


def test_a_policy_by_which_keras_quantizes():
    policy = keras.dtype_policies.QuantizedDTypePolicy("int8", "float32")
    model = network(layers.Dense(4, dtype=policy, name="a"), layers.Dense(2, name="b"))
    report = qf.quantize(model, SETTINGS)
    assert [row.path for row in report.quantized] == ["b"]
    assert report.skipped[0].reason == "Keras quantized it to int8 already"


# --- LoRA, where the kernel is a sum.


def with_lora():
    model = network(layers.Dense(4, name="a"), layers.Dense(2, name="b"))
    dense = model.get_layer("a")
    dense.enable_lora(2)
    rng = np.random.default_rng(0)
    dense.lora_kernel_b.assign(rng.normal(size=dense.lora_kernel_b.shape))
    return model, dense


def test_with_lora_the_sum_is_quantized():
    model, dense = with_lora()
    total = ops.convert_to_numpy(dense.kernel)
    plain = outputs(model)
    qf.quantize(model, SIGN)
    kernel, bias = model.get_layer("b").get_weights()
    np.testing.assert_array_equal(outputs(model), X @ signs(total) @ signs(kernel))
    model.compile("sgd", "mse", jit_compile=False)
    before = values([dense.lora_kernel_a, dense.lora_kernel_b])
    model.fit(X, np.zeros((3, 2)), verbose=0)
    after = values([dense.lora_kernel_a, dense.lora_kernel_b])
    assert all((a != b).any() for a, b in zip(after, before, strict=True))
    dense.lora_kernel_a.assign(before[0])
    dense.lora_kernel_b.assign(before[1])
    model.get_layer("b").set_weights([kernel, bias])
    dense.bias.assign(np.zeros(4))
    qf.strip(model)
    np.testing.assert_array_equal(outputs(model), plain)


def test_with_lora_a_constraint_is_refused():
    model, _ = with_lora()
    refused(model, SETTINGS, ArgumentError, "'a': its kernel is computed.*LoRA is enabled")
    assert len(qf.quantize(model, [("re:a", SIGN), ("re:b", SETTINGS)]).quantized) == 2


def test_with_lora_the_kernel_cannot_be_frozen():
    model, _ = with_lora()
    qf.quantize(model, SIGN)
    before = quantized(model)
    with pytest.raises(ArgumentError, match="'a' cannot be frozen"):
        qf.strip(model, freeze=True)
    assert quantized(model) == before


UPDATES = "lsq(bits=4)"  # writes the start of its step to a variable


@pytest.mark.parametrize("kind", ["SimpleRNN", "LSTM", "GRU"])
def test_input_of_a_cell_is_quantized_before_the_loop(kind):
    model = keras.Sequential(
        [keras.Input((5, 3)), getattr(layers, kind)(4, return_sequences=True)]
    )
    inputs = np.random.default_rng(0).normal(size=(2, 5, 3)).astype("float32")
    plain = keras.models.clone_model(model)
    plain.set_weights(model.get_weights())
    qf.quantize(model, {"input_quantizer": "ste_sign"})
    actual = model(inputs)
    expected = plain(np.where(inputs < 0, -1, 1).astype("float32"))
    np.testing.assert_allclose(*map(keras.ops.convert_to_numpy, (actual, expected)), 1e-5)
    with qf.float_weights(model):
        actual = model(inputs)
    np.testing.assert_allclose(
        *map(keras.ops.convert_to_numpy, (actual, plain(inputs))), 1e-5, 1e-6
    )


def test_a_step_starts_before_the_loop_over_time():
    model = keras.Sequential([keras.Input((5, 3)), layers.GRU(4)])
    qf.quantize(model, {"input_quantizer": UPDATES, "weight_quantizer": UPDATES})
    model.compile("adam", "mse", **WITHOUT_XLA)
    inputs = np.random.default_rng(0).normal(size=(16, 5, 3)).astype("float32")
    model.fit(inputs, np.zeros((16, 4)), batch_size=16, epochs=1, verbose=0)
    # Of the whole batch, and not of its first step: 2 mean |x| / sqrt(7).
    (start,) = (
        keras.ops.convert_to_numpy(v)
        for v in model.layers[0].cell.quantizers["input"].non_trainable_variables
        if v.name == "step_start"
    )
    np.testing.assert_allclose(start, 2 * np.abs(inputs).mean() / 7**0.5, 1e-5)


@pytest.mark.parametrize(
    ("slot", "make"),
    [
        ("output", lambda: layers.GRU(4)),
        ("input", lambda: layers.RNN([layers.GRUCell(4), layers.GRUCell(4)])),
    ],
)
def test_quantizer_that_writes_in_a_loop_over_time(slot, make):
    model = keras.Sequential([keras.Input((5, 3)), make()])
    settings = {f"{slot}_quantizer": UPDATES}
    if keras.backend.backend() == "jax":
        with pytest.raises(ArgumentError, match=r"loop over time of .*unroll=True"):
            qf.quantize(model, settings)
        return
    qf.quantize(model, settings)
    model.compile("adam", "mse", **WITHOUT_XLA)
    history = model.fit(np.ones((4, 5, 3)), np.zeros((4, 4)), verbose=0)
    assert np.isfinite(history.history["loss"]).all()
