"""Hypothesis strategies of models, and the custom layers in these models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from hypothesis import strategies as st
from keras import layers, ops

from qframe.layers.adapters import register_layer

SHAPE = (3, 4)


class Block(layers.Layer):
    """A layer with a sublayer and a direct weight."""

    def __init__(self, units: int, **kwargs: Any) -> None:
        register()
        super().__init__(**kwargs)
        self.units = units
        self.dense = layers.Dense(units)

    def build(self, shape: Any) -> None:
        self.dense.build(shape)
        self.extra = self.add_weight(name="extra", shape=(shape[-1], self.units))

    def call(self, x: Any) -> Any:
        return ops.relu(self.dense(x)) + ops.matmul(x, self.extra)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "units": self.units}


class Scale(layers.Layer):
    """A custom layer that one line registers."""

    def __init__(self, **kwargs: Any) -> None:
        register()
        super().__init__(**kwargs)

    def build(self, shape: Any) -> None:
        self.w = self.add_weight(name="w", shape=(shape[-1], 4))

    def call(self, x: Any) -> Any:
        return ops.matmul(x, self.w)


def register() -> None:
    """Register these layers with Keras and qframe.

    Their constructors call it, not the import, so that a process that only draws tensors
    does not have them.
    """
    for cls in (Block, Scale):
        keras.saving.register_keras_serializable("qframe_testing")(cls)
    register_layer(Scale, kernel="w")


class Attention(layers.Layer):
    """Attention of a sequence to itself."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.inner = layers.MultiHeadAttention(1, 2)

    def build(self, shape: Any) -> None:
        self.inner.build(shape, shape)

    def call(self, x: Any) -> Any:
        return self.inner(x, x)


class LayerSequence(keras.Model):
    """A subclassed model that calls its layers in order."""

    def __init__(self, parts: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.parts = parts

    def call(self, x: Any) -> Any:
        for part in self.parts:
            x = part(x)
        return x


# Constructors by a name, of layers from (time, channels) to the same shape.
KINDS: dict[str, Callable[[str | None], Any]] = {
    "dense": lambda name: layers.Dense(4, name=name),
    "constrained": lambda name: layers.Dense(4, kernel_constraint="non_neg", name=name),
    "frozen": lambda name: layers.Dense(4, trainable=False, name=name),
    "without bias": lambda name: layers.Dense(4, use_bias=False, name=name),
    "einsum": lambda name: layers.EinsumDense("abc,cd->abd", SHAPE, name=name),
    "conv": lambda name: layers.Conv1D(4, 2, padding="same", name=name),
    "depthwise": lambda name: layers.DepthwiseConv1D(2, padding="same", name=name),
    "separable": lambda name: layers.SeparableConv1D(4, 2, padding="same", name=name),
    "transposed": lambda name: layers.Conv1DTranspose(4, 2, padding="same", name=name),
    "simple rnn": lambda name: layers.SimpleRNN(4, return_sequences=True, name=name),
    "gru": lambda name: layers.GRU(4, return_sequences=True, unroll=True, name=name),
    "cells": lambda name: layers.RNN(
        [layers.SimpleRNNCell(2), layers.SimpleRNNCell(4)], return_sequences=True, name=name
    ),
    "bidirectional": lambda name: layers.Bidirectional(
        layers.SimpleRNN(2, return_sequences=True), name=name
    ),
    "time distributed": lambda name: layers.TimeDistributed(layers.Dense(4), name=name),
    "block": lambda name: Block(4, name=name),
    "custom": lambda name: Scale(name=name),
    "attention": lambda name: Attention(name=name),
    "nested": lambda name: keras.Sequential(
        [keras.Input(SHAPE), layers.Dense(4), Block(4)], name=name
    ),
}
WITHOUT_KERNEL: dict[str, Callable[[str | None], Any]] = {
    "batch norm": lambda name: layers.BatchNormalization(name=name),
    "prelu": lambda name: layers.PReLU(name=name),
    "dropout": lambda name: layers.Dropout(0.5, name=name),
}


def inputs() -> Any:
    """A batch for any of the models."""
    return np.random.default_rng(0).normal(size=(2, *SHAPE)).astype("float32")


@st.composite
def names(draw: Any) -> Any:
    """A name that a user might choose, or None."""
    return draw(st.none() | st.text("aB0_-+ (é", min_size=1, max_size=4))


@st.composite
def models(draw: Any, most: int = 4) -> Any:  # noqa: D417 (hypothesis passes `draw`)
    """A built model: functional, with shared layers and residual links, or subclassed.

    Args:
        most: the largest number of layers. At least one has a kernel.
    """
    chosen = draw(
        st.lists(st.sampled_from([*KINDS.items()]), min_size=1, max_size=most - 1)
    )
    chosen += draw(st.lists(st.sampled_from([*WITHOUT_KERNEL.items()]), max_size=1))
    parts: list[Any] = []
    for i, (_, make) in enumerate(draw(st.permutations(chosen))):
        name = draw(names())
        parts.append(make(name if name is None else f"{name}{i}"))
    if draw(st.booleans()):
        parts.append(draw(st.sampled_from(parts)))
    if draw(st.booleans()):
        model = LayerSequence(parts)
        model(inputs())
    else:
        x = tensor = keras.Input(SHAPE)
        for part in parts:
            x = x + part(x) if draw(st.booleans()) else part(x)
        model = keras.Model(tensor, x)
    if draw(st.booleans()):
        model.compile(keras.optimizers.SGD(0.1, momentum=0.9), "mse")
        model.optimizer.build(model.trainable_variables)
    return model
