"""One of each layer that has slots: how to make it, and what its channels are."""

import attrs
import keras
import numpy as np

import qframe as qf


@attrs.frozen
class Case:
    """A layer class with arguments, an input shape, and its weights' channel axes."""

    name: str
    arguments: dict
    input_shape: tuple
    channel_axes: dict
    integer_input: bool = False

    @property
    def float_class(self):
        return getattr(keras.layers, self.name)

    @property
    def quantized_class(self):
        return getattr(qf.layers, f"Quant{self.name}")

    def float_layer(self, **arguments):
        return self._built(self.float_class(**{**self.arguments, **arguments}))

    def quantized_layer(self, **arguments):
        return self._built(self.quantized_class(**{**self.arguments, **arguments}))

    def inputs(self, seed=0, batch=2):
        rng = np.random.default_rng(seed)
        shape = (batch, *self.input_shape)
        if self.integer_input:
            return rng.integers(0, 7, shape).astype("int32")
        return rng.normal(size=shape).astype("float32")

    def _built(self, layer):
        layer.build((None, *self.input_shape))
        return layer

    def __str__(self):
        return self.name


def conv(name, rank, kernel_axes, **extra):
    separable = name.startswith("Separable")
    count = {} if name.startswith("Depthwise") else {"filters": 4}
    arguments = {**count, "kernel_size": 3, "padding": "same", **extra}
    if separable or name.startswith("Depthwise"):
        arguments["depth_multiplier"] = 2
    return Case(name, arguments, (*(6, 5, 4)[:rank], 2), kernel_axes)


SEPARABLE = {"depthwise": (-2, -1), "pointwise": (-1,)}
CASES = [
    Case("Dense", {"units": 3}, (4,), {"kernel": (-1,)}),
    Case(
        "EinsumDense",
        {"equation": "abc,cde->abde", "output_shape": (None, 3, 2), "bias_axes": "de"},
        (5, 4),
        {"kernel": (1, 2)},
    ),
    Case(
        "Embedding",
        {"input_dim": 7, "output_dim": 3},
        (5,),
        {"embeddings": (0,)},
        integer_input=True,
    ),
    conv("Conv1D", 1, {"kernel": (-1,)}),
    conv("Conv2D", 2, {"kernel": (-1,)}),
    conv("Conv3D", 3, {"kernel": (-1,)}),
    conv("Conv1DTranspose", 1, {"kernel": (-2,)}),
    conv("Conv2DTranspose", 2, {"kernel": (-2,)}, strides=2),
    conv("Conv3DTranspose", 3, {"kernel": (-2,)}),
    conv("DepthwiseConv1D", 1, {"depthwise": (-2, -1)}),
    conv("DepthwiseConv2D", 2, {"depthwise": (-2, -1)}),
    conv("SeparableConv1D", 1, SEPARABLE),
    conv("SeparableConv2D", 2, SEPARABLE),
]
