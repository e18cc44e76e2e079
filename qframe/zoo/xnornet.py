"""XNOR-Net."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers

from qframe.zoo.network import Design, larq_files, network
from qframe.zoo.parts import batch_norm, binary_conv, relu, softmax


def _regularizer() -> Any:
    return keras.regularizers.L2(5e-7)


def _norm(x: Any, epsilon: float = 1e-4) -> Any:
    return batch_norm(x, epsilon=epsilon, scale=False)


def _conv(x: Any, filters: int, size: int, **options: Any) -> Any:
    return binary_conv(
        x,
        filters,
        size,
        input_quantizer="ste_sign",
        kernel_quantizer="xnor_sign",
        kernel_constraint="weight_clip",
        kernel_regularizer=_regularizer(),
        kernel_initializer="glorot_uniform",
        **options,
    )


@network(
    Design("xnornet", larq_files("xnornet-v0.2.0", notop="xnornet-v0.2.1"), sized=True)
)
def XNORNet(images: Any, num_classes: int | None) -> Any:
    """XNOR-Net: AlexNet with binary weights, scaled by channel.

    The gradient of the weights follows the paper, unlike Larq's network; the values are
    equal.

    Example:
        >>> import qframe as qf
        >>> qf.zoo.XNORNet().count_params()  # doctest: +SKIP
        62396768

    Paper: Rastegari et al., 2016, https://arxiv.org/abs/1603.05279
    """
    x = layers.Conv2D(
        96, 11, strides=4, padding="same", use_bias=False, kernel_regularizer=_regularizer()
    )(images)
    x = relu(_norm(x, 1e-5))
    x = _norm(layers.MaxPooling2D(3, strides=2)(x))
    for filters, size, pool in ((256, 5, True), (384, 3, False), (384, 3, False)):
        x = _conv(x, filters, size)
        if pool:
            x = layers.MaxPooling2D(3, strides=2)(x)
        x = _norm(x)
    x = _norm(layers.MaxPooling2D(3, strides=2)(_conv(x, 256, 3)))
    x = _norm(_conv(x, 4096, 6, padding="valid"))
    if num_classes is None:
        return x
    x = layers.Flatten()(relu(_norm(_conv(x, 4096, 1), 1e-3)))
    dense = layers.Dense(num_classes, use_bias=False, kernel_regularizer=_regularizer())
    return softmax(dense(x))
