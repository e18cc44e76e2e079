"""A topology: a model to make, and what is true of it."""

import attrs
import keras
import numpy as np
from keras import layers, ops, tree

TOPOLOGIES = []
VECTOR = (8,)


@attrs.frozen
class Topology:
    """A model to make, and what is true of it.

    Args:
        name: its row in docs/topologies.md.
        make: a function without arguments; a new model each time.
        kernels: how many of its layers have a weight to quantize.
        shapes: of one example; a shape, or a list or dict of them.
        integer: whether the inputs are integers.
        xla: whether TensorFlow on a CPU runs it compiled by XLA only.
        subclassed: whether the call of the model itself is code.
        optimizer: a function that makes the optimizer.
        untrainable: why Keras cannot train the float model, by backend.
    """

    name: str
    make: object
    kernels: int
    shapes: object = VECTOR
    integer: bool = False
    xla: bool = False
    subclassed: bool = False
    optimizer: object = keras.optimizers.Adam
    untrainable: dict = attrs.field(factory=dict)

    @property
    def trains(self):
        """Return whether Keras can train the float model on this backend."""
        return keras.backend.backend() not in self.untrainable

    def model(self):
        """A new model, built, the same one each time."""
        keras.utils.set_random_seed(0)
        model = self.make()
        if not model.built:
            model(self.inputs())
        return model

    def inputs(self, batch=4):
        """The same numbers each time."""
        rng = np.random.default_rng(0)

        def array(*shape):
            if self.integer:
                return rng.integers(0, 5, (batch, *shape)).astype("int32")
            return rng.normal(size=(batch, *shape)).astype("float32")

        if isinstance(self.shapes, dict):
            return {key: array(*shape) for key, shape in self.shapes.items()}
        if isinstance(self.shapes, list):
            return [array(*shape) for shape in self.shapes]
        return array(*self.shapes)

    def targets(self, model, batch=4):
        """Zeros for each output."""
        x = tree.map_structure(lambda array: keras.KerasTensor(array.shape), self.inputs())
        return tree.map_structure(lambda y: np.zeros((batch, *y.shape[1:])), model(x))

    def compile(self, model):
        """Compile by XLA only where it must be: on TensorFlow that takes a while."""
        jit = self.xla if keras.backend.backend() == "tensorflow" else "auto"
        model.compile(self.optimizer(), "mse", jit_compile=jit)

    def predict(self, model):
        """The outputs by a compiled call, in one list."""
        _reset(model)
        if not model.compiled:
            self.compile(model)
        return _arrays(model.predict(self.inputs(), verbose=0))

    def call(self, model):
        """The outputs by a call, in one list."""
        if self.xla and keras.backend.backend() == "tensorflow":
            return self.predict(model)
        _reset(model)
        return _arrays(model(tree.map_structure(ops.convert_to_tensor, self.inputs())))

    def fit(self, model, epochs=1):
        """The losses of some steps of training, the same ones each time."""
        _reset(model)
        y = self.targets(model)
        history = model.fit(self.inputs(), y, epochs=epochs, shuffle=False, verbose=0)
        return history.history["loss"]

    def __str__(self):
        return self.name


def _reset(model):
    """A recurrent layer that keeps its state between calls starts from zeros again."""
    for part in model._flatten_layers():
        if isinstance(part, layers.RNN) and part.stateful:
            part.reset_state()


def _arrays(outputs):
    return [ops.convert_to_numpy(output) for output in tree.flatten(outputs)]


def named(name):
    """The topology of that name."""
    (topology,) = [topology for topology in TOPOLOGIES if topology.name == name]
    return topology


def topology(kernels, **facts):
    """Add what a function makes, under the function's name."""

    def add(make):
        name = make.__name__.strip("_").replace("_", " ")
        TOPOLOGIES.append(Topology(name, make, kernels, **facts))
        return make

    return add


def functional(kernels, shapes=VECTOR, inputs=None, **facts):
    """Add the functional model of a function from its inputs to its outputs."""

    def add(body):
        def make():
            dtype = "int32" if facts.get("integer") else None
            chosen = shapes if inputs is None else inputs
            if isinstance(chosen, dict):
                x = {k: keras.Input(s, dtype=dtype, name=k) for k, s in chosen.items()}
                return keras.Model(x, body(**x))
            if isinstance(chosen, list):
                x = [keras.Input(shape, dtype=dtype) for shape in chosen]
                return keras.Model(x, body(*x))
            x = keras.Input(chosen, dtype=dtype)
            return keras.Model(x, body(x))

        make.__name__ = body.__name__
        topology(kernels, shapes=shapes, **facts)(make)
        return body

    return add


def layer(name, kernels, make, shapes=VECTOR, **facts):
    """Add the functional model of one layer."""

    def body(x):
        return make()(x)

    body.__name__ = name
    functional(kernels, shapes, **facts)(body)
