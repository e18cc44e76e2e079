"""A small quantized network, and how to train it the same way each time."""

import keras
import numpy as np
import pytest
from keras import layers, ops

RNG = np.random.default_rng(0)
X = RNG.normal(size=(64, 6)).astype("float32")
Y = RNG.normal(size=(64, 2)).astype("float32")

# The ways of Keras to run a training step; the first is the default of tests, and alone
# on the versions of TensorFlow between the oldest and the newest.
MODES = {
    "tensorflow": ["graph", pytest.param("eager", marks=pytest.mark.ends)],
    "jax": ["xla", "eager"],
    "torch": ["eager"],
}[keras.backend.backend()]

# On TensorFlow XLA takes seconds for each model: tests of steps that change take it too.
_XLA = [pytest.param("xla", marks=pytest.mark.long)]
MODES_AND_XLA = MODES + (_XLA if keras.backend.backend() == "tensorflow" else [])

# For `compile` in tests that are not about compiling: on TensorFlow Keras would use XLA,
# which takes seconds for each model. The modes above and the documents cover that.
WITHOUT_XLA = {"jit_compile": False} if keras.backend.backend() == "tensorflow" else {}


def network(*parts, optimizer=None, mode=MODES[0]):
    """The model of some layers; without any, of two plain ones."""
    keras.utils.set_random_seed(0)
    parts = parts or (layers.Dense(5, activation="relu"), layers.Dense(2))
    model = keras.Sequential([keras.Input((6,)), *parts])
    rng = np.random.default_rng(1)
    for variable in model.trainable_variables:  # whatever made the parts
        if "kernel" in variable.name:
            variable.assign(rng.normal(size=variable.shape, scale=0.4))
    compiled(model, optimizer, mode)
    return model


def compiled(model, optimizer=None, mode=MODES[0]):
    model.compile(
        optimizer or keras.optimizers.SGD(0.05),
        "mse",
        jit_compile=mode == "xla",
        run_eagerly=mode == "eager",
    )


def fit(model, *callbacks, epochs=1, **options):
    """Steps of 16 examples, in order."""
    defaults = {"batch_size": 16, "shuffle": False, "verbose": 0}
    options = {**defaults, **options}
    return model.fit(X, Y, epochs=epochs, callbacks=list(callbacks), **options)


def weights(model):
    return [ops.convert_to_numpy(v) for v in model.trainable_variables]


def state(quantizer):
    return [ops.convert_to_numpy(v) for v in quantizer.weights]


def equal(actual, expected, **tolerance):
    for a, b in zip(actual, expected, strict=True):
        if tolerance:
            np.testing.assert_allclose(a, b, **tolerance)
        else:
            np.testing.assert_array_equal(a, b)


class Probe(keras.callbacks.Callback):
    """Notes what a function says of the model at the end of each epoch."""

    def __init__(self, ask):
        super().__init__()
        self.ask, self.recorded = ask, []

    def on_epoch_end(self, epoch, logs=None):
        self.recorded.append(self.ask(self.model))


class Fail(keras.callbacks.Callback):
    """Fails in an epoch."""

    def __init__(self, epoch):
        super().__init__()
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if self.now == self.epoch:
            raise RuntimeError("as when memory is out")

    def on_epoch_begin(self, epoch, logs=None):
        self.now = epoch
