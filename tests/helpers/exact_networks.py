"""Networks that compute without rounding, so that a file equals its model to the bit."""

import attrs
import keras
import numpy as np
from keras import layers

import qframe as qf
from qframe_packed import files

SIGN = {"kernel_quantizer": "ste_sign", "kernel_constraint": "weight_clip"}
# Their steps are powers of 2.
FIXED = {
    "kernel_quantizer": "quantized_bits(4,0,1)",
    "input_quantizer": "quantized_bits(8,7,1)",
}
SHAPE = (8, 8, 2)


def integers(count=40, shape=SHAPE, seed=0):
    """Examples of small integers, whose sums are exact."""
    return np.random.default_rng(seed).integers(-8, 8, (count, *shape)).astype("float32")


def network(seed=0):
    """A binary network with ends of more bits."""
    rng = np.random.default_rng(seed)
    model = keras.Sequential(
        [
            keras.Input(SHAPE),
            qf.layers.QuantConv2D(8, 3, use_bias=False, name="conv1", **SIGN),
            layers.MaxPooling2D(name="pool"),
            layers.BatchNormalization(epsilon=0, name="norm1"),
            qf.layers.QuantConv2D(
                4, 2, use_bias=False, input_quantizer="ste_sign", name="conv2", **SIGN
            ),
            layers.BatchNormalization(epsilon=0, name="norm2"),
            layers.Flatten(name="flatten"),
            layers.Dropout(0.5, name="dropout"),
            qf.layers.QuantDense(3, name="head", **FIXED),
        ],
        name="exact",
    )
    for layer in model.layers:
        # The same weights on each backend.
        if hasattr(layer, "kernel"):
            layer.kernel.assign(rng.uniform(-1, 1, layer.kernel.shape))
    without_ties(model)
    return model


def without_ties(model):
    """Let batch normalization move integers to numbers between them."""
    rng = np.random.default_rng(0)
    for layer in model._flatten_layers():
        if isinstance(layer, layers.BatchNormalization):
            size = layer.gamma.shape
            layer.gamma.assign(rng.choice([-1.0, 1.0], size))
            layer.moving_variance.assign(np.full(size, 4.0))
            layer.moving_mean.assign(rng.integers(-2, 3, size) + 0.25)


def exported(model, folder):
    """The path of the model as a packed file."""
    path = folder / "m.safetensors"
    qf.export(model, path, target="packed")
    return path


def planted(path, place, **fields):
    """Change fields of an operation in a packed file, by its place in the graph."""
    graph = files.read(path)
    nodes = list(graph.nodes)
    operation = attrs.evolve(nodes[place].operation, **fields)
    nodes[place] = attrs.evolve(nodes[place], operation=operation)
    path.write_bytes(files.encode(attrs.evolve(graph, nodes=tuple(nodes))))
