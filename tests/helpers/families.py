"""The smallest network of each family of `keras.applications`, with random weights."""

from collections import Counter

import attrs
import keras
import numpy as np

import qframe as qf
from qframe.deployment.graph.operations import Quantize
from qframe.deployment.graph.reference import run, tensors_of
from qframe.deployment.lowering import ExportTarget, lower


@attrs.frozen
class Family:
    """A network, the size of an image, and whether it rescales numbers from 0 to 255."""

    model: str
    size: int = 32
    rescales: bool = False

    def build(self):
        """The network for 1000 classes, which returns logits, with drawn statistics."""
        keras.utils.set_random_seed(0)
        model = getattr(keras.applications, self.model)(
            weights=None,
            input_shape=(self.size, self.size, 3),
            classifier_activation=None,
        )
        rng = np.random.default_rng(0)
        for layer in model.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                size = layer.moving_mean.shape
                layer.moving_mean.assign(rng.normal(0, 0.1, size))
                layer.moving_variance.assign(rng.uniform(0.5, 1.5, size))
        return model

    def images(self, count=2):
        """Noise in the range that it takes."""
        x = np.random.default_rng(1).uniform(0, 255, (count, self.size, self.size, 3))
        return (x if self.rescales else x / 127.5 - 1).astype("float32")


FAMILIES = {
    "ConvNeXt": Family("ConvNeXtTiny", rescales=True),
    "DenseNet": Family("DenseNet121"),
    "EfficientNet": Family("EfficientNetB0", rescales=True),
    "EfficientNetV2": Family("EfficientNetV2B0", rescales=True),
    "InceptionResNetV2": Family("InceptionResNetV2", 75),
    "InceptionV3": Family("InceptionV3", 75),
    "MobileNet": Family("MobileNet"),
    "MobileNetV2": Family("MobileNetV2"),
    "MobileNetV3": Family("MobileNetV3Small", rescales=True),
    "NASNet": Family("NASNetMobile"),
    "ResNet": Family("ResNet50"),
    "ResNetV2": Family("ResNet50V2"),
    "VGG": Family("VGG16"),
    "Xception": Family("Xception", 71),
}


def quantized(model, images):
    """The model in 8 bits, with ranges of these images."""
    qf.quantize(model, "integer_inference")
    # Compiling takes much longer than a few images.
    model.run_eagerly = True
    qf.calibrate(model, images, verbose=0)
    return model


def difference(found, expected):
    """The largest difference, relative to the largest number."""
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def in_numpy(runtime):
    """How many operations, by name, the compiled engine leaves to NumPy."""
    kernels = zip(runtime.graph.nodes, runtime._engine.kernels, strict=True)
    operations = [node.operation for node, kernel in kernels if "numpy" in kernel]
    names = Counter(getattr(op, "function", op.name) for op in operations)
    return ", ".join(f"{count} `{name}`" for name, count in names.items()) or "none"


def distance_before_flips(model, images):
    """How far quantizers read from what they read in Keras, in steps, until levels differ.

    After the first number that rounding moves over a threshold, networks of 8 bits differ
    more and more from layer to layer, as they do between two backends.
    """
    graph = lower(model, ExportTarget("mine"))
    tensors, by_name = (
        tensors_of(graph, images),
        {layer.name: layer for layer in model.layers},
    )
    reads = [
        (node.operation, node.inputs[0], by_name[node.name].input)
        for node in graph.nodes
        if isinstance(node.operation, Quantize) and node.name in by_name
    ]
    inputs = keras.Model(model.inputs, [tensor for *_, tensor in reads])(images)
    far = 0.0
    for (quantize, index, _), tensor in zip(reads, inputs, strict=True):
        expected = keras.ops.convert_to_numpy(tensor)
        far = max(far, np.abs(tensors[index] - expected).max() / quantize.scale)
        if (run(quantize, tensors[index]) != run(quantize, expected)).any():
            break
    return float(far)
