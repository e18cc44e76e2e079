"""Batch normalization with statistics of the weights as they are, each epoch."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import qframe as qf
from fitting import Fail, Probe, X, Y, equal, fit, network, weights
from qframe.callbacks import RecalibrateBatchNorm
from qframe.errors import ArgumentError


def normalizing(**options):
    return network(layers.Dense(5), layers.BatchNormalization(), layers.Dense(2), **options)


def statistics(model):
    normalize = model.layers[1]
    return [
        ops.convert_to_numpy(v) for v in (normalize.moving_mean, normalize.moving_variance)
    ]


def expected(model):
    """Of all of the data as one batch."""
    kernel, bias = model.layers[0].get_weights()
    hidden = X @ kernel + bias
    return [hidden.mean(0), hidden.var(0)]


@pytest.mark.parametrize("validation", [True, False])
def test_each_epoch_ends_with_statistics_of_its_weights(tmp_path, validation):
    model = normalizing()
    path = str(tmp_path / "m{epoch}.keras")
    save = keras.callbacks.ModelCheckpoint(path)
    probe = Probe(lambda m: (statistics(m), expected(m)))
    options = {"validation_data": (X, Y)} if validation else {}
    recalibrate = RecalibrateBatchNorm(X, batch_size=64)
    history = fit(model, recalibrate, save, probe, epochs=2, **options)
    for epoch, (actual, wanted) in enumerate(probe.recorded):
        equal(actual, wanted, rtol=1e-4, atol=1e-6)
        again = qf.load_model(path.format(epoch=epoch + 1))
        equal(statistics(again), actual)
        if validation:
            loss = again.evaluate(X, Y, verbose=0)
            np.testing.assert_allclose(history.history["val_loss"][epoch], loss, rtol=1e-5)
    equal(statistics(model), probe.recorded[-1][0])


def test_training_is_the_same_with_and_without():
    one, other = normalizing(), normalizing()
    fit(one, RecalibrateBatchNorm(X), epochs=3, validation_data=(X, Y))
    fit(other, epochs=3, validation_data=(X, Y))
    equal(weights(one), weights(other), rtol=1e-6)
    assert not np.allclose(statistics(one)[0], statistics(other)[0])


@pytest.mark.parametrize("after_a_failure", [False, True])
def test_an_evaluation_of_its_own_leaves_the_model_alone(after_a_failure):
    model, callback = normalizing(), RecalibrateBatchNorm(X)
    if after_a_failure:
        with pytest.raises(RuntimeError):
            fit(model, callback, Fail(0))
    before = statistics(model)
    model.evaluate(X, Y, callbacks=[callback], verbose=0)
    equal(statistics(model), before)


def test_early_stopping_restores_them():
    model = normalizing(optimizer=keras.optimizers.SGD(1.0))  # diverges
    probe = Probe(statistics)
    stop = keras.callbacks.EarlyStopping(patience=1, restore_best_weights=True)
    fit(model, RecalibrateBatchNorm(X), stop, probe, epochs=5, validation_data=(X, Y))
    equal(statistics(model), probe.recorded[stop.best_epoch])


def test_errors():
    with pytest.raises(ArgumentError, match="can be read once"):
        RecalibrateBatchNorm(x for x in [X])
    with pytest.raises(ArgumentError, match="has no keras"):
        fit(network(), RecalibrateBatchNorm(X))
