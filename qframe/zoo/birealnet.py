"""Bi-Real Net."""

from __future__ import annotations

from typing import Any

from keras import layers

from qframe.zoo.network import Design, larq_files, network
from qframe.zoo.parts import batch_norm, binary_conv, classifier, shortcut, stem

_BINARY: dict[str, Any] = {
    "input_quantizer": "approx_sign",
    "kernel_quantizer": "magnitude_aware_sign",
    "kernel_constraint": "weight_clip",
}


def _norm(x: Any) -> Any:
    return batch_norm(x, momentum=0.8, epsilon=1e-3)


def _block(x: Any, filters: int) -> Any:
    """A binary convolution with a shortcut; more filters halve the image."""
    identity, strides = shortcut(x, filters, _norm)
    x = _norm(binary_conv(x, filters, strides=strides, **_BINARY))
    return layers.add([x, identity])


@network(Design("birealnet18", larq_files("birealnet-v0.3.0")))
def BiRealNet(images: Any, num_classes: int | None) -> Any:
    """Bi-Real Net with 18 layers: a shortcut around every binary convolution.

    Example:
        >>> import qframe as qf
        >>> qf.zoo.BiRealNet().count_params()  # doctest: +SKIP
        11699112

    Paper: Liu et al., 2018, https://arxiv.org/abs/1808.00278
    """
    x = _norm(stem(images, 64, 7, strides=2, kernel_initializer="glorot_normal"))
    x = layers.MaxPooling2D(3, strides=2, padding="same")(x)
    for filters in (64, 128, 256, 512):
        for _ in range(4):
            x = _block(x, filters)
    return classifier(x, num_classes)
