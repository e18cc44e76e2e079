"""Models and rules that hypothesis draws."""

import keras
import numpy as np
from hypothesis import strategies as st
from keras import layers

import qframe as qf
from topologies import Block, Scale

SHAPE = (3, 4)

# Each takes a name to a layer from (time, channels) to the same shape.
KINDS = {
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
WITHOUT_KERNEL = {
    "batch norm": lambda name: layers.BatchNormalization(name=name),
    "prelu": lambda name: layers.PReLU(name=name),
    "dropout": lambda name: layers.Dropout(0.5, name=name),
}


class Offset(qf.quantizers.Quantizer):
    """One with a variable that learns."""

    traits = qf.quantizers.Traits(trainable=True)

    def build(self, shape):
        self.offset = self.add_weight(name="offset", shape=(), initializer="ones")

    def call(self, inputs):
        return inputs + keras.ops.cast(self.offset, inputs.dtype)


WEIGHTS = ("kernel", "recurrent", "depthwise", "pointwise", "bias")
QUANTIZERS = (
    "ste_sign",
    "ste_sign(clip_value=0.5)",
    "approx_sign",
    "magnitude_aware_sign",
    "no_op(precision=4)",
    Offset(),
)


class Attention(layers.Layer):
    """Attention of a sequence to itself."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.inner = layers.MultiHeadAttention(1, 2)

    def build(self, shape):
        self.inner.build(shape, shape)

    def call(self, x):
        return self.inner(x, x)


class Chain(keras.Model):
    """A subclassed model that calls its layers in order."""

    def __init__(self, parts, **kwargs):
        super().__init__(**kwargs)
        self.parts = parts

    def call(self, x):
        for part in self.parts:
            x = part(x)
        return x


def inputs():
    """A batch for any of the models."""
    return np.random.default_rng(0).normal(size=(2, *SHAPE)).astype("float32")


@st.composite
def names(draw):
    """A name as a user might choose, or none."""
    return draw(st.none() | st.text("aB0_-+ (é", min_size=1, max_size=4))


@st.composite
def models(draw, most=4):
    """A built model: a graph, with shared layers and residual links, or code.

    Args:
        most: how many layers it has. One or more of them have a kernel.
    """
    chosen = draw(
        st.lists(st.sampled_from([*KINDS.items()]), min_size=1, max_size=most - 1)
    )
    chosen += draw(st.lists(st.sampled_from([*WITHOUT_KERNEL.items()]), max_size=1))
    parts = []
    for i, (_, make) in enumerate(draw(st.permutations(chosen))):
        name = draw(names())
        parts.append(make(name if name is None else f"{name}{i}"))
    if draw(st.booleans()):
        parts.append(draw(st.sampled_from(parts)))
    if draw(st.booleans()):
        model = Chain(parts)
        model(inputs())
    else:
        x = given = keras.Input(SHAPE)
        for part in parts:
            x = x + part(x) if draw(st.booleans()) else part(x)
        model = keras.Model(given, x)
    if draw(st.booleans()):
        model.compile(keras.optimizers.SGD(0.1, momentum=0.9), "mse")
        model.optimizer.build(model.trainable_variables)
    return model


@st.composite
def words(draw):
    """What a rule gives: quantizers for some slots, constraints for some weights."""
    slots = st.sampled_from((*WEIGHTS, "weight", "input", "output"))
    given = {
        f"{slot}_quantizer": draw(st.sampled_from(QUANTIZERS))
        for slot in draw(st.sets(slots, min_size=1, max_size=3))
    }
    for prefix in draw(st.sets(st.sampled_from((*WEIGHTS, "weight")), max_size=2)):
        given[f"{prefix}_constraint"] = draw(st.sampled_from(("weight_clip", None)))
    return given


SELECTORS = (
    qf.first,
    qf.last,
    layers.Layer,
    layers.Dense,
    "Dense",
    "SimpleRNNCell",
    "Scale",
    "re:dense",
    "re:[aB]",
    "re:/",
    "re:^[^/]*$",
    lambda layer: getattr(layer, "bias", None) is not None,
)


def rules():
    """Rules that may fit a model or not."""
    given = words()
    pairs = st.tuples(st.sampled_from(SELECTORS), st.none() | given)
    return given | st.lists(pairs, min_size=1, max_size=3)


@st.composite
def fitting_rules(draw, model):
    """Rules that a model takes: of those drawn, the ones that are about something."""
    fitting = []
    for pair in [*draw(st.lists(st.tuples(st.sampled_from(SELECTORS), words()))), REST]:
        try:
            qf.plan(model, [*fitting, pair])
        except qf.errors.ArgumentError:
            continue
        fitting.append(pair)
    return fitting


REST = (layers.Layer, {"weight_quantizer": "ste_sign", "weight_constraint": "weight_clip"})
