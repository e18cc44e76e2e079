"""One model of each topology, with how many of its layers have a kernel."""

import attrs
import keras
import numpy as np
from keras import layers, ops

import qframe as qf


@keras.saving.register_keras_serializable("tests")
class Block(layers.Layer):
    """A layer that holds layers, and a weight of its own."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.dense = layers.Dense(units)

    def build(self, shape):
        self.dense.build(shape)
        self.extra = self.add_weight(name="extra", shape=(shape[-1], self.units))

    def call(self, x):
        return ops.relu(self.dense(x)) + ops.matmul(x, self.extra)

    def get_config(self):
        return {**super().get_config(), "units": self.units}


@keras.saving.register_keras_serializable("tests")
class Scale(layers.Layer):
    """A custom layer that takes one line to register."""

    def build(self, shape):
        self.w = self.add_weight(name="w", shape=(shape[-1], 4))

    def call(self, x):
        return ops.matmul(x, self.w)


qf.register_layer(Scale, kernel="w")


@keras.saving.register_keras_serializable("tests")
class Subclassed(keras.Model):
    """A model whose call is code, with layers in lists and dicts."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.first = layers.Dense(6)
        self.blocks = [layers.Dense(6), Block(6)]
        self.heads = {"a": layers.Dense(4), "b": layers.Dense(4)}

    def call(self, x):
        x = self.first(x)
        for block in self.blocks:
            x = block(x)
        return self.heads["a"](x) + self.heads["b"](x)


@keras.saving.register_keras_serializable("tests")
def double(x):
    return 2 * x


@attrs.frozen
class Topology:
    name: str
    make: object
    kernels: int
    shape: tuple = (8,)
    integer: bool = False

    def model(self):
        model = self.make()
        model(self.inputs())
        return model

    def inputs(self, batch=4):
        rng = np.random.default_rng(0)
        if self.integer:
            return rng.integers(0, 5, (batch, *self.shape)).astype("int32")
        return rng.normal(size=(batch, *self.shape)).astype("float32")

    def __str__(self):
        return self.name


def _functional(body, shape=(8,), dtype=None):
    def make():
        x = keras.Input(shape, dtype=dtype)
        return keras.Model(x, body(x))

    return make


def _shared(x):
    dense = layers.Dense(8)
    return dense(dense(x))


def _nested(x):
    inner = keras.Sequential([keras.Input((6,)), layers.Dense(5)])
    middle = keras.Sequential([keras.Input((8,)), layers.Dense(6), inner])
    return layers.Dense(2)(middle(x))


def _branches():
    a, b = keras.Input((8,)), keras.Input((8,))
    x = layers.Dense(4)(a) + layers.Dense(4)(b)
    return keras.Model([a, b], [layers.Dense(2)(x), layers.Dense(3)(x)])


def _attention(x):
    return layers.MultiHeadAttention(2, 3)(x, x)


def _grouped(x):
    return layers.GroupQueryAttention(4, 4, 2)(x, x)


TIME, IMAGE = (3, 8), (6, 6, 2)
TOPOLOGIES = [
    Topology(
        "sequential",
        lambda: keras.Sequential([keras.Input((8,)), layers.Dense(4), layers.Dense(2)]),
        2,
    ),
    Topology(
        "operations",
        _functional(lambda x: layers.Dense(2)(ops.relu(layers.Dense(8)(x)) * 2 + x)),
        2,
    ),
    Topology("shared", _functional(_shared), 1),
    Topology("nested", _functional(_nested), 3),
    Topology("subclassed", Subclassed, 5),
    Topology("layer of layers", _functional(lambda x: Block(3)(x)), 1),
    Topology("custom layer", _functional(lambda x: Scale()(x)), 1),
    Topology(
        "time distributed",
        _functional(lambda x: layers.TimeDistributed(layers.Dense(3))(x), TIME),
        1,
        TIME,
    ),
    Topology(
        "bidirectional",
        _functional(lambda x: layers.Bidirectional(layers.LSTM(3))(x), TIME),
        2,
        TIME,
    ),
    Topology("lstm", _functional(lambda x: layers.LSTM(3)(x), TIME), 1, TIME),
    Topology("gru", _functional(lambda x: layers.GRU(3)(x), TIME), 1, TIME),
    Topology("simple rnn", _functional(lambda x: layers.SimpleRNN(3)(x), TIME), 1, TIME),
    Topology(
        "stacked cells",
        _functional(lambda x: layers.RNN([layers.LSTMCell(3), layers.GRUCell(2)])(x), TIME),
        2,
        TIME,
    ),
    Topology(
        "conv lstm",
        _functional(lambda x: layers.ConvLSTM1D(2, 2)(x), (3, 6, 2)),
        1,
        (3, 6, 2),
    ),
    Topology("attention", _functional(_attention, TIME), 4, TIME),
    Topology("grouped attention", _functional(_grouped, TIME), 4, TIME),
    Topology(
        "separable",
        _functional(lambda x: layers.SeparableConv2D(3, 2)(x), IMAGE),
        1,
        IMAGE,
    ),
    Topology(
        "embedding",
        _functional(lambda x: layers.Dense(2)(layers.Embedding(5, 3)(x)), (4,), "int32"),
        2,
        (4,),
        integer=True,
    ),
    Topology(
        "lambda",
        _functional(lambda x: layers.Dense(2)(layers.Lambda(double)(x))),
        1,
    ),
]
