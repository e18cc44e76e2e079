"""A model computes what its layers are now, whichever model of them was changed."""

import keras
import numpy as np
import pytest
from keras import layers

import qframe as qf
from fitting import WITHOUT_XLA
from qframe.errors import ArgumentError

X = np.random.default_rng(0).normal(size=(16, 8)).astype("float32")
Y = X[:, :2]
SIGN = {"kernel_quantizer": "ste_sign(clip_value=None)"}


@pytest.fixture
def models():
    """An inner model, one around it, and one beside it with the same layer."""
    keras.utils.set_random_seed(0)
    dense = layers.Dense(6)
    inner = keras.Sequential([keras.Input((8,)), dense], name="inner")
    x = keras.Input((8,))
    outer = keras.Model(x, layers.Dense(2)(inner(x)), name="outer")
    beside = keras.Model(x, layers.Dense(2)(dense(x)), name="beside")
    # Older Keras reports the metrics of a compiled model that is within another one.
    inner.predict(X, verbose=0)
    for model in (outer, beside):
        model.compile("sgd", "mse", **WITHOUT_XLA)
        model.predict(X, verbose=0)
        model.evaluate(X, Y, verbose=0)
        model.fit(X, Y, verbose=0)
    return inner, outer, beside


def called(model):
    return keras.ops.convert_to_numpy(model(X))


def assert_agree(models):
    for model in models:
        expected = called(model)
        np.testing.assert_allclose(model.predict(X, verbose=0), expected, 1e-5, 1e-6)
    for model in models[1:2]:
        loss = model.evaluate(X, Y, verbose=0)
        np.testing.assert_allclose(loss, np.mean((called(model) - Y) ** 2), 1e-5)


def test_all_models_with_a_layer_trace_again(models):
    inner, *_ = models
    assert_agree(models)
    in_float = [called(model) for model in models]
    qf.quantize(inner, SIGN)
    assert_agree(models)
    quantized = [called(model) for model in models]
    with qf.float_weights(inner):
        assert_agree(models)
        for model, expected in zip(models, in_float, strict=True):
            np.testing.assert_array_equal(called(model), expected)
    assert_agree(models)
    inner.layers[0].quantizers["input"] = "ste_sign"
    assert_agree(models)
    del inner.layers[0].quantizers["input"]
    assert_agree(models)
    for model, expected in zip(models, quantized, strict=True):
        np.testing.assert_array_equal(called(model), expected)
    qf.strip(inner)
    assert_agree(models)
    for model, expected in zip(models, in_float, strict=True):
        np.testing.assert_array_equal(called(model), expected)


def test_training_is_of_the_layers_as_they_are(models):
    inner, outer, _ = models
    twin = keras.models.clone_model(outer)
    qf.quantize(inner, SIGN)
    qf.quantize(twin.layers[1], SIGN)
    twin.set_weights(outer.get_weights())
    twin.compile("sgd", "mse", **WITHOUT_XLA)
    histories = [model.fit(X, Y, shuffle=False, verbose=0) for model in (outer, twin)]
    assert histories[0].history == histories[1].history


def test_first_trace_within_float_weights_is_discarded():
    model = keras.Sequential([keras.Input((8,)), layers.Dense(2)])
    qf.quantize(model, SIGN)
    with qf.float_weights(model):
        before = model.predict(X, verbose=0)
    assert np.abs(model.predict(X, verbose=0) - before).max() > 0.1


def test_functions_of_other_calls_are_made_again():
    class Writer(keras.Sequential):
        """As a language model of KerasHub, which keeps what it traced of `generate`."""

        generate_function = None

        def make_generate_function(self):
            if self.generate_function is None:
                now = keras.ops.convert_to_numpy(self(X))
                self.generate_function = lambda: now
            return self.generate_function

    model = Writer([keras.Input((8,)), layers.Dense(2)])
    model.make_generate_function()
    qf.quantize(model, SIGN)
    np.testing.assert_array_equal(model.make_generate_function()(), called(model))


def test_an_optimizer_of_another_model_would_not_know_what_learns(models):
    inner = models[0]
    before = [type(layer) for layer in inner.layers]
    with pytest.raises(ArgumentError, match=r"optimizer of '(outer|beside)' was built"):
        qf.quantize(inner, {"kernel_quantizer": "lsq"})
    assert [type(layer) for layer in inner.layers] == before
    assert_agree(models)


class Change(keras.callbacks.Callback):
    """Calls a function at some moment of training."""

    def __init__(self, moment, change):
        super().__init__()
        setattr(self, moment, lambda *args, **kwargs: self.once(change))
        self.done = False

    def once(self, change):
        if not self.done:
            self.done = True
            change(self.model)


def to_signs(model):
    qf.quantize(model, SIGN)


@pytest.mark.parametrize(
    ("change", "moment"),
    [
        (to_signs, "on_epoch_end"),
        pytest.param(to_signs, "on_epoch_begin", marks=pytest.mark.long),
        pytest.param(qf.strip, "on_epoch_end", marks=pytest.mark.long),
    ],
)
def test_a_callback_changes_a_model_that_trains(change, moment):
    model = keras.Sequential([keras.Input((8,)), layers.Dense(2)])
    if change is qf.strip:
        qf.quantize(model, SIGN)
    twin = keras.models.clone_model(model)
    twin.set_weights(model.get_weights())
    for each in (model, twin):
        each.compile(keras.optimizers.SGD(0.1), "mse", **WITHOUT_XLA)
    options = {"batch_size": 4, "shuffle": False, "verbose": 0}
    actual = model.fit(X, Y, epochs=2, callbacks=[Change(moment, change)], **options)
    expected = []
    for epoch in range(2):
        if epoch == (moment == "on_epoch_end"):
            change(twin)
        expected += twin.fit(X, Y, **options).history["loss"]
    np.testing.assert_allclose(actual.history["loss"], expected, 1e-5)
    np.testing.assert_allclose(model.predict(X, verbose=0), called(twin), 1e-4, 1e-5)


def test_within_an_epoch_it_holds_from_the_next_step_on():
    model = keras.Sequential([keras.Input((8,)), layers.Dense(2, use_bias=False)])
    model.compile(keras.optimizers.SGD(0.0), "mse", **WITHOUT_XLA)
    loss = np.mean((called(model)[4:] - Y[4:]) ** 2)
    change = Change("on_train_batch_end", lambda m: qf.quantize(m, SIGN))
    losses = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: seen.append(float(logs["loss"]))
    )
    seen = []
    options = {"batch_size": 4, "shuffle": False, "verbose": 0}
    model.fit(X, Y, callbacks=[change, losses], **options)
    # The mean over the batches so far; the first was in float.
    actual = (4 * seen[-1] - seen[0]) / 3
    assert actual == pytest.approx(np.mean((called(model)[4:] - Y[4:]) ** 2), 1e-4)
    assert actual != pytest.approx(loss, 0.1)
    np.testing.assert_allclose(model.predict(X, verbose=0), called(model), 1e-5, 1e-6)
