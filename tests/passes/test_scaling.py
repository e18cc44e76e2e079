"""The passes take time in proportion to the layers of a model, whatever its shape.

What is counted is function calls, which are the same in every run.
"""

import cProfile
import gc
import itertools

import keras
import pytest
from keras import layers

import qframe as qf

# These tests count calls of qframe's code, for which one backend is enough.
pytestmark = pytest.mark.long

LEVELS = 20
RULES = [
    (qf.first, {"kernel_quantizer": "ste_sign", "kernel_constraint": "weight_clip"}),
    ("Dense", {"weight_quantizer": "approx_sign", "input_quantizer": "ste_sign"}),
]


def dense(index):
    return layers.Dense(
        1, use_bias=False, kernel_initializer="zeros", name=f"dense_{index}"
    )


@pytest.fixture(scope="module")
def pool():
    """As many built layers as are asked for; the models of this file share them."""
    built = []

    def take(count):
        while len(built) < count:
            built.append(dense(len(built)))
            built[-1].build((None, 1))
        # No earlier model is alive: it would be updated when its layers change.
        for part in built:
            part._inbound_nodes.clear()
            part._outbound_nodes.clear()
        gc.collect()
        return built[:count]

    return take


def branches(parts):
    """A functional model of twenty branches; Keras itself builds no chain of 1,000."""
    inputs = keras.Input((1,))
    outputs = [inputs] * LEVELS
    for index, part in enumerate(parts):
        outputs[index % LEVELS] = part(outputs[index % LEVELS])
    return keras.Model(inputs, outputs)


def nested(parts):
    """Functional models within functional models, twenty deep."""
    share = len(parts) // LEVELS
    model = None
    for level in range(LEVELS):
        inputs = outputs = keras.Input((1,))
        for part in parts[level * share : (level + 1) * share]:
            outputs = part(outputs)
        model = keras.Model(inputs, model(outputs) if model else outputs)
    return model


class Block(layers.Layer):
    """A layer that holds layers, perhaps of the same class."""

    def __init__(self, parts, inner=None):
        super().__init__()
        self.parts = parts
        self.inner = inner
        self.built = True


def blocks(parts):
    """Layers within layers, twenty deep."""
    share = len(parts) // LEVELS
    block = None
    for level in range(LEVELS):
        block = Block(parts[level * share : (level + 1) * share], block)
    return block


class Listed(keras.Model):
    """A model whose call is code, with its layers in a list."""

    def __init__(self, parts):
        super().__init__()
        self.parts = parts
        self.built = True


@keras.saving.register_keras_serializable("tests")
class Stack(layers.Layer):
    """A layer that makes and builds its own layers, so that it can be loaded."""

    def __init__(self, count, **kwargs):
        super().__init__(**kwargs)
        self.parts = [dense(index) for index in range(count)]

    def build(self, shape):
        for part in self.parts:
            part.build(shape)

    def get_config(self):
        return {**super().get_config(), "count": len(self.parts)}


SHAPES = [branches, nested, blocks, Listed]
SIZES = (60, 120, 240)


class Counts(dict):
    """The number of function calls by action, size after size."""

    def __call__(self, name, function, *args):
        profile = cProfile.Profile()
        profile.enable()
        try:
            result = function(*args)
        finally:
            profile.disable()
        actual = sum(entry.callcount for entry in profile.getstats())
        self.setdefault(name, []).append(actual)
        return result

    def check_linear(self):
        """Check that calls double with the layers, after the first size."""
        for name, result in self.items():
            for fewer, more in itertools.pairwise(result[1:]):
                assert 1.5 < more / fewer < 2.1, (name, result)


@pytest.mark.parametrize("shape", SHAPES)
def test_passes(shape, pool):
    counts = Counts()
    for size in (LEVELS, *SIZES):
        model = None
        parts = pool(size)
        model = shape(parts)
        counts("plan", qf.plan, model, RULES)
        assert {type(part) for part in parts} == {layers.Dense}
        counts("quantize", qf.quantize, model, RULES)
        assert all(isinstance(part, qf.layers.Quantized) for part in parts)
        counts("strip", qf.strip, model)
        assert {type(part) for part in parts} == {layers.Dense}
    counts.check_linear()


def test_saving_and_loading_a_layer_of_layers():
    counts = Counts()
    for size in (LEVELS, 100, 200):
        stack = Stack(size)
        stack.build((None, 1))
        qf.quantize(stack, RULES)
        config = counts("save", stack.get_config)
        again = counts("load", type(stack).from_config, config)
        counts("build", again.build, (None, 1))
        assert [repr(part.quantizers) for part in again.parts] == [
            repr(part.quantizers) for part in stack.parts
        ]
    counts.check_linear()
