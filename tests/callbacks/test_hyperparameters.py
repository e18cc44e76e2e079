"""Hyperparameters of an optimizer that change while it trains."""

import keras
import numpy as np
import pytest
from keras import ops

import qframe as qf
from fitting import MODES, equal, fit, network, weights
from qframe.callbacks import HyperparameterScheduler
from qframe.errors import ArgumentError

EACH_MODE = pytest.mark.parametrize("mode", MODES)


@EACH_MODE
def test_a_rate_by_epoch_is_that_of_keras(mode):
    one, other = network(mode=mode), network(mode=mode)
    history = fit(
        one, HyperparameterScheduler(lambda e: 0.1 / (e + 1), "learning_rate"), epochs=3
    )
    fit(other, keras.callbacks.LearningRateScheduler(lambda e: 0.1 / (e + 1)), epochs=3)
    equal(weights(one), weights(other))
    np.testing.assert_allclose(
        history.history["learning_rate"], [0.1, 0.05, 0.1 / 3], rtol=1e-6
    )


@EACH_MODE
def test_a_rate_by_step_is_that_of_a_schedule(mode):
    decay = keras.optimizers.schedules.InverseTimeDecay(0.1, 1, 1.0)
    one = network(mode=mode)
    other = network(mode=mode, optimizer=keras.optimizers.SGD(decay))
    by_step = HyperparameterScheduler(
        lambda step: 0.1 / (1 + step), "learning_rate", update_freq="step", log_name="rate"
    )
    history = fit(one, by_step, epochs=2)
    fit(other, epochs=2)
    equal(weights(one), weights(other), rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(history.history["rate"], [0.1 / 4, 0.1 / 8], rtol=1e-6)


@EACH_MODE
def test_a_plain_number_takes_effect_in_what_is_traced(mode):
    """Momentum is a number of Python, which a traced step holds."""
    optimizer = keras.optimizers.SGD(0.05, momentum=0.9)
    model = network(mode=mode, optimizer=optimizer)
    fit(
        model,
        HyperparameterScheduler(lambda e: 0.9 if e == 0 else 0.0, "momentum"),
        epochs=3,
    )
    expected = network(mode=mode, optimizer=keras.optimizers.SGD(0.05, momentum=0.9))
    fit(expected, epochs=1)
    expected.optimizer.momentum = 0.0
    expected.make_train_function(force=True)
    fit(expected, epochs=2)
    equal(weights(model), weights(expected), rtol=1e-5, atol=1e-7)


def test_the_present_number_is_given_to_who_takes_it(capsys):
    model = network()
    halve = HyperparameterScheduler(lambda epoch, now: now / 2, "learning_rate", verbose=1)
    history = fit(model, halve, epochs=2)
    np.testing.assert_allclose(history.history["learning_rate"], [0.025, 0.0125])
    assert "epoch 1: learning_rate is now 0.0125" in capsys.readouterr().out
    default = HyperparameterScheduler(lambda epoch, rate=0.5: rate, "learning_rate")
    assert fit(model, default).history["learning_rate"] == [0.5]


def test_an_optimizer_within_another():
    inner = keras.optimizers.SGD(0.05)
    model = network(optimizer=keras.optimizers.LossScaleOptimizer(inner))
    callback = HyperparameterScheduler(lambda e: 0.25, "learning_rate", inner)
    assert fit(model, callback).history["learning_rate"] == [0.25]
    assert float(ops.convert_to_numpy(inner.learning_rate)) == 0.25


def test_bop_in_a_case_optimizer():
    settings = {"kernel_quantizer": "noop(precision=1)", "use_bias": False}
    bop = qf.optimizers.Bop(threshold=1e-8, gamma=1e-2)
    optimizer = qf.optimizers.CaseOptimizer(
        (qf.optimizers.Bop.is_binary_variable, bop),
        default_optimizer=keras.optimizers.Adam(0.01),
    )
    parts = [qf.layers.QuantDense(8, **settings), keras.layers.Dense(2)]
    model = network(*parts, optimizer=optimizer)
    callbacks = [
        HyperparameterScheduler(lambda e: 1e-2 * 0.1**e, "gamma", bop),
        HyperparameterScheduler(lambda s: 1e-8 * s, "threshold", bop, update_freq="step"),
    ]
    history = fit(model, *callbacks, epochs=2).history
    np.testing.assert_allclose(history["gamma"], [1e-2, 1e-3], rtol=1e-6)
    np.testing.assert_allclose(history["threshold"], [3e-8, 7e-8], rtol=1e-5)
    wrong = HyperparameterScheduler(lambda e: -1.0, "gamma", bop)
    with pytest.raises(ArgumentError, match="gamma of Bop"):
        fit(model, wrong)


@pytest.mark.parametrize("value", [None, "0.1", float("nan"), np.inf, True, [0.1, 0.2]])
def test_a_value_that_is_not_a_number_changes_nothing(value):
    model = network()
    with pytest.raises(ArgumentError, match="must return a finite number"):
        fit(model, HyperparameterScheduler(lambda e: value, "learning_rate"))
    assert float(ops.convert_to_numpy(model.optimizer.learning_rate)) == np.float32(0.05)


@pytest.mark.parametrize("number", [np.float32(0.5), np.array(0.5), 0.5])
def test_numbers_of_any_type_are_taken(number):
    callback = HyperparameterScheduler(lambda e: number, "learning_rate")
    assert fit(network(), callback).history["learning_rate"] == [0.5]


def other_optimizer():
    optimizer = keras.optimizers.SGD(0.1)
    fit(network(), HyperparameterScheduler(lambda e: 0.1, "learning_rate", optimizer))


def scheduled():
    decay = keras.optimizers.schedules.InverseTimeDecay(0.1, 1, 1.0)
    model = network(optimizer=keras.optimizers.SGD(decay))
    fit(model, HyperparameterScheduler(lambda e: 0.1, "learning_rate"))


def each_step():
    callback = HyperparameterScheduler(lambda s: 0.9, "momentum", update_freq="step")
    fit(network(), callback)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: HyperparameterScheduler(0.1, "learning_rate"), "must be a function"),
        (
            lambda: HyperparameterScheduler(lambda e: 1, "momentum", update_freq="batch"),
            "update_freq",
        ),
        (
            lambda: fit(network(), HyperparameterScheduler(lambda e: 1, "learning_rat")),
            "Did you mean 'learning_rate'",
        ),
        (
            lambda: fit(network(), HyperparameterScheduler(lambda e: 1, "name")),
            "is a number",
        ),
        (other_optimizer, "does not train"),
        (scheduled, "is a schedule already"),
        (each_step, "update_freq='epoch'"),
    ],
)
def test_errors(make, message):
    with pytest.raises(ArgumentError, match=message):
        make()
