"""BinaryResNetE."""

from __future__ import annotations

from typing import Any

from keras import layers

from qframe.zoo.network import Design, larq_files, network
from qframe.zoo.parts import (
    batch_norm,
    binary_conv,
    classifier,
    image_stem,
    relu,
    shortcut,
    signs,
)


def _block(x: Any, filters: int) -> Any:
    """A binary convolution with a shortcut; more filters halve the image."""
    identity, strides = shortcut(x, filters, batch_norm)
    x = batch_norm(binary_conv(x, filters, strides=strides, **signs(1.25)))
    return layers.add([x, identity])


@network(Design("binary_resnet_e_18", larq_files("resnet_e-v0.1.0", "resnet_e_18")))
def BinaryResNetE18(images: Any, num_classes: int | None) -> Any:
    """BinaryResNetE with 18 layers: a residual network with a shortcut at each layer.

    Images below 50 pixels keep their size in the first layer.

    Example:
        >>> import qframe as qf
        >>> qf.zoo.BinaryResNetE18().count_params()  # doctest: +SKIP
        11699368

    Paper: Bethge et al., 2019, https://arxiv.org/abs/1906.08637
    """
    x, shrunk = image_stem(images)
    if shrunk:
        x = batch_norm(x)
    for filters in (64, 128, 256, 512):
        for _ in range(4):
            x = _block(x, filters)
    return classifier(relu(x), num_classes, "glorot_normal")
