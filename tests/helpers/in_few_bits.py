"""NumPy references of integers by output channel, and networks to measure."""

import itertools
import math
from fractions import Fraction

import keras
import numpy as np


def in_bits(kernel, bits):
    """A kernel, its output channels last, in integers up to h with steps of max / h."""
    kernel = np.asarray(kernel, np.float64)
    high = 2 ** (bits - 1) - 1
    top = np.abs(kernel).max(tuple(range(kernel.ndim - 1)), keepdims=True)
    step = top / high
    return np.clip(np.rint(kernel / step), -high, high) * step


QUANTIZER = "integer(granularity='channel', narrow_range=True)"


def two_layers(activation="softmax"):
    """A small network of two dense layers, whose weights are the same each time."""
    rng = np.random.default_rng(0)
    model = keras.Sequential(
        [
            keras.Input((5,)),
            keras.layers.Dense(7, activation="relu", name="one"),
            keras.layers.Dense(3, activation=activation, name="two"),
        ],
        name="small",
    )
    model.set_weights([rng.normal(size=w.shape) for w in model.weights])
    return model


def in_numpy(weights, x, activation="softmax"):
    """The outputs of `two_layers` with these weights."""
    one, first, two, second = weights
    y = np.maximum(x @ one + first, 0) @ two + second
    if activation == "softmax":
        e = np.exp(y - y.max(-1, keepdims=True))
        return e / e.sum(-1, keepdims=True)
    return 1 / (1 + np.exp(-y)) if activation == "sigmoid" else y


def best_by_brute_force(problem, budget):
    """The least loss of all choices within a budget; None if there are none."""
    losses = [
        math.fsum(option.loss for option in choice)
        for choice in itertools.product(*problem)
        if sum(Fraction(option.cost) for option in choice) <= budget
    ]
    return min(losses, default=None)
