"""Small models of the same layers: one, another around it, and a third beside it."""

import attrs
import keras
import numpy as np
from keras import layers

from expected import Part

WIDTH, TIME = 4, 3


@keras.saving.register_keras_serializable("tests")
class Graph(keras.Model):
    """A graph that its config creates again, as those of KerasHub."""

    def __init__(self, width, **kwargs):
        x = keras.Input((WIDTH,))
        y = layers.Dense(width, activation="tanh", name="first")(x)
        super().__init__(
            x, layers.Dense(width, activation="tanh", name="second")(y), **kwargs
        )
        self.width = width

    def get_config(self):
        return {"width": self.width, "name": self.name}

    @classmethod
    def from_config(cls, config):
        return cls(**config)


@keras.saving.register_keras_serializable("tests")
class Code(keras.Model):
    """A model whose call is code."""

    def __init__(self, width, **kwargs):
        super().__init__(**kwargs)
        self.width = width
        self.one = layers.Dense(width, activation="tanh", name="first")
        self.two = layers.Dense(width, activation="tanh", name="second")

    def call(self, x):
        return self.two(self.one(x))

    def get_config(self):
        return {"width": self.width, "name": self.name}


def _dense(name):
    return layers.Dense(3, activation="tanh", name=name)


def _nested():
    x = keras.Input((WIDTH,))
    return keras.Model(x, _dense("first")(x), name="inner")


def _sequential():
    parts = [keras.Input((WIDTH,)), _dense("first"), _dense("second")]
    return keras.Sequential(parts, name="inner")


def _recurrent():
    x = keras.Input((TIME, WIDTH))
    return keras.Model(
        x, _dense("second")(layers.SimpleRNN(3, name="first")(x)), name="inner"
    )


def _graph():
    return Graph(3, name="inner")


def _code():
    return Code(3, name="inner")


# The first are those that hypothesis prefers: Keras saves them as a whole.
KINDS = {
    "graph": _graph,
    "code": _code,
    "nested": _nested,
    "sequential": _sequential,
    "recurrent": _recurrent,
}


def parts_of(model):
    """The layers with weights of an inner model, in the order of its call."""
    parts = [model.one, model.two] if isinstance(model, Code) else model.layers
    return [layer for layer in parts if not isinstance(layer, layers.InputLayer)]


def holder(layer):
    return getattr(layer, "cell", layer)


def inputs(kind):
    """The same numbers each time."""
    shape = (TIME, WIDTH) if kind == "recurrent" else (WIDTH,)
    return np.random.default_rng(3).normal(size=(5, *shape)).astype("float32")


@attrs.define
class Network:
    """A model and the parts that its call goes through."""

    model: object
    parts: list

    def __call__(self, x, doubt, **options):
        """Return the outputs of the model, in NumPy."""
        for part in self.parts:
            x = part(x, doubt, **options)
        return x


def around(kind, inner, head=None):
    """A functional model around an inner one."""
    x = keras.Input(inputs(kind).shape[1:])
    return keras.Model(x, (head or layers.Dense(2, name="head"))(inner(x)), name="outer")


def beside(kind, first, last=None):
    """A functional model with a layer of the inner one."""
    x = keras.Input(inputs(kind).shape[1:])
    return keras.Model(x, (last or layers.Dense(2, name="last"))(first(x)), name="beside")


def networks(kind, seed=0):
    """The three models of a kind, with weights that no rounding is near."""
    inner = KINDS[kind]()
    outer = around(kind, inner)
    first = parts_of(inner)[0]
    other = beside(kind, first)
    parts = [*parts_of(inner), outer.layers[-1], other.layers[-1]]
    rng = np.random.default_rng(seed)
    for layer in parts:
        layer.set_weights(
            [rng.normal(size=w.shape, scale=0.7) for w in layer.get_weights()]
        )
    *within, head, last = [
        Part(layer, holder(layer), tanh=layer.name in ("first", "second"))
        for layer in parts
    ]
    return {
        "inner": Network(inner, within),
        "outer": Network(outer, [*within, head]),
        "beside": Network(other, [within[0], last]),
    }
