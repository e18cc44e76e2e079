"""A model with binary and other weights, its data, and what is in it."""

import keras
import numpy as np
from keras import layers, ops

import qframe as qf
from fitting import WITHOUT_XLA

rng = np.random.default_rng(0)
X = rng.normal(size=(32, 8)).astype("float32")
Y = np.sign(X[:, :3]) - X[:, 3:6] / 4


def optimizer(**default):
    """Bop with a schedule for what is binary, Adam for the rest."""
    gamma = keras.optimizers.schedules.ExponentialDecay(0.5, 10, 0.5)
    return qf.optimizers.CaseOptimizer(
        (qf.optimizers.Bop.is_binary_variable, qf.optimizers.Bop(1e-3, gamma)),
        default_optimizer=keras.optimizers.Adam(0.01, **default),
    )


def model(chosen=None, **compiled):
    keras.utils.set_random_seed(0)
    binary = {"kernel_quantizer": "noop(precision=1)"}
    network = keras.Sequential(
        [
            keras.Input((8,)),
            qf.layers.QuantDense(12, use_bias=False, **binary),
            layers.BatchNormalization(),
            qf.layers.QuantDense(3, input_quantizer="ste_sign", **binary),
            layers.Rescaling(0.25),
        ]
    )
    network.compile(chosen or optimizer(), "mse", **{**WITHOUT_XLA, **compiled})
    return network


def train(network, epochs=2):
    network.fit(X, Y, epochs=epochs, batch_size=8, shuffle=False, verbose=0)
    return network


def state(network):
    """Every array of a model and of its optimizer."""
    return [ops.convert_to_numpy(v) for v in network.weights + network.optimizer.variables]


def assert_same(network, other):
    first, second = state(network), state(other)
    assert len(first) == len(second)
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)


def kernels(network):
    return [network.layers[i].get_weights()[0] for i in (0, 2)]
