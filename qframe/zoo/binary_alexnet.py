"""Binary AlexNet."""

from __future__ import annotations

from typing import Any

from keras import layers

from qframe.zoo.network import Design, larq_files, network
from qframe.zoo.parts import binary_conv, signs, softmax

_SIGNS = {**signs(), "kernel_initializer": "glorot_uniform"}


def _norm(x: Any) -> Any:
    return layers.BatchNormalization(scale=False, momentum=0.9)(x)


_FILES = larq_files("binary_alexnet-v0.3.0", notop="binary_alexnet-v0.2.1")


@network(Design("binary_alexnet", _FILES, sized=True))
def BinaryAlexNet(images: Any, num_classes: int | None) -> Any:
    """AlexNet with binary weights and activations, except for the image.

    Example:
        >>> import qframe as qf
        >>> qf.zoo.BinaryAlexNet().count_params()  # doctest: +SKIP
        61859192

    Paper: Hubara et al., 2016, https://arxiv.org/abs/1602.02830
    """
    x = images
    for filters, size, strides, pool in (
        (64, 11, 4, True),
        (192, 5, 1, True),
        (384, 3, 1, False),
        (384, 3, 1, False),
        (256, 3, 1, True),
    ):
        # The image is not quantized.
        first = {"input_quantizer": None} if x is images else {}
        x = binary_conv(x, filters, size, strides=strides, **{**_SIGNS, **first})
        if pool:
            x = layers.MaxPooling2D(3, strides=2)(x)
        x = _norm(x)
    if num_classes is None:
        return x
    x = layers.Reshape((1, 1, -1))(x)
    for units in (4096, 4096, num_classes):
        x = _norm(binary_conv(x, units, 1, **_SIGNS))
    return softmax(layers.Flatten()(x))
