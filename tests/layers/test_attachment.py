"""Recurrent layers and the slots of their cells."""

import keras
import numpy as np
import pytest
from keras import layers

import qframe as qf

STEPS = 7


class Counting(qf.quantizers.Quantizer):
    """The identity, which counts how often it is computed."""

    count = 0

    def value(self, inputs):
        type(self).count += 1
        return inputs + 0

    def gradient(self, inputs):
        return keras.ops.ones_like(inputs)


RECURRENT = {
    "LSTM": (lambda **how: layers.LSTM(3, **how), 2),
    "GRU": (lambda **how: layers.GRU(3, **how), 2),
    "SimpleRNN": (lambda **how: layers.SimpleRNN(3, **how), 2),
    "Bidirectional": (lambda **how: layers.Bidirectional(layers.LSTM(3, **how)), 4),
    "cells": (lambda **how: layers.RNN([layers.LSTMCell(3), layers.GRUCell(2)], **how), 4),
}


@pytest.mark.parametrize("unroll", [False, True])
@pytest.mark.parametrize("name", RECURRENT)
def test_the_weights_are_quantized_once_per_call_and_not_once_per_step(name, unroll):
    make, weights = RECURRENT[name]
    x = np.random.default_rng(0).normal(size=(2, STEPS, 4)).astype("float32")
    model = keras.Sequential([keras.Input((STEPS, 4)), make(unroll=unroll)])
    before = keras.ops.convert_to_numpy(model(x))
    qf.quantize(model, {"weight_quantizer": Counting()})
    for _ in range(2):
        Counting.count = 0
        after = keras.ops.convert_to_numpy(model(x))
        assert Counting.count == weights
    np.testing.assert_allclose(after, before, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("slot", "count"), [("input", 1), ("output", STEPS * 3)])
def test_the_input_is_quantized_once_and_what_a_cell_returns_at_every_step(slot, count):
    x = np.zeros((2, STEPS, 4), "float32")
    model = keras.Sequential([keras.Input((STEPS, 4)), layers.LSTM(3, unroll=True)])
    qf.quantize(model, {f"{slot}_quantizer": Counting()})
    Counting.count = 0
    model(x)
    assert Counting.count == count  # an LSTM returns its output and two states
