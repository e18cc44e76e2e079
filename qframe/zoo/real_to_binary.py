"""Real-to-binary network."""

from __future__ import annotations

from typing import Any

from keras import layers

from qframe.zoo.network import Design, larq_files, network
from qframe.zoo.parts import binary_conv, classifier, shortcut, signs, stem

# The bottleneck ratio of the branch that computes the scales.
_REDUCTION = 8


def _scales(x: Any, filters: int) -> Any:
    """A scale between 0 and 1 for each channel, computed from the input."""
    z = layers.GlobalAveragePooling2D()(x)
    for units, activation in ((x.shape[-1] // _REDUCTION, "relu"), (filters, "sigmoid")):
        z = layers.Dense(units, activation, use_bias=False, kernel_initializer="he_normal")(
            z
        )
    # A layer, since the order in which Larq saves layers depends on it.
    return layers.Reshape((1, 1, filters))(z)


def _half(x: Any, filters: int) -> Any:
    """A scaled binary convolution with a shortcut; more filters halve the image."""
    identity, strides = shortcut(x, filters, lambda y: layers.BatchNormalization()(y))
    x = layers.BatchNormalization()(x)
    y = binary_conv(x, filters, strides=strides, **signs())
    y = layers.multiply([y, _scales(x, filters)])
    y = layers.PReLU(shared_axes=[1, 2])(y)
    return layers.add([y, identity])


@network(Design("r2b_bnn", larq_files("r2b-v0.1.0")))
def RealToBinaryNet(images: Any, num_classes: int | None) -> Any:
    """Real-to-binary network: scales computed from the input of each convolution.

    The layers ``block_2`` to ``block_9`` are the outputs of its blocks, which a float
    teacher guides in the paper.

    Example:
        >>> import qframe as qf
        >>> qf.zoo.RealToBinaryNet().count_params()  # doctest: +SKIP
        11995624

    Paper: Martinez et al., 2020, https://arxiv.org/abs/2003.11535
    """
    x = stem(images, 64, 7, strides=2, kernel_initializer="glorot_normal")
    x = layers.PReLU(shared_axes=[1, 2])(layers.BatchNormalization()(x))
    x = layers.MaxPooling2D(3, strides=2, padding="same")(x)
    for block in range(2, 10):
        filters = 64 * 2 ** (block // 2 - 1)
        for _ in range(2):
            x = _half(x, filters)
        x = layers.Identity(name=f"block_{block}")(x)
    return classifier(x, num_classes)
