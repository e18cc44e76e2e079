"""QuickNet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keras import layers

from qframe.layers.initializers import BlurPool
from qframe.zoo.network import Design, larq_files, network
from qframe.zoo.parts import batch_norm, binary_conv, classifier, pointwise, relu, signs


def _design(name: str) -> Design:
    return Design(name, larq_files("quicknet-v1.0", name))


def _stem(images: Any, filters: int) -> Any:
    """Two cheap convolutions that reduce the pixels to a sixteenth."""
    halved: dict[str, Any] = {"strides": 2, "padding": "same", "use_bias": False}
    x = layers.Conv2D(filters // 4, 3, kernel_initializer="he_normal", **halved)(images)
    x = relu(layers.BatchNormalization()(x))
    x = layers.DepthwiseConv2D(3, **halved)(x)
    x = layers.BatchNormalization(scale=False, center=False)(x)
    return layers.BatchNormalization()(pointwise(x, filters, "he_normal"))


def _transition(x: Any, filters: int) -> Any:
    """Antialiased pooling that halves the image, and more channels."""
    x = layers.MaxPooling2D(2, strides=1)(relu(x))
    x = layers.DepthwiseConv2D(
        3,
        strides=2,
        padding="same",
        use_bias=False,
        depthwise_initializer=BlurPool(),
        trainable=False,
    )(x)
    return batch_norm(pointwise(x, filters))


def _block(x: Any) -> Any:
    """A binary convolution with a shortcut."""
    y = binary_conv(x, x.shape[-1], activation="relu", pad_values=1.0, **signs(1.25))
    return layers.add([batch_norm(y), x])


def _quicknet(
    images: Any, num_classes: int | None, depths: Sequence[int], widths: Sequence[int]
) -> Any:
    x = _stem(images, widths[0])
    for depth, filters in zip(depths, widths, strict=True):
        if x.shape[-1] != filters:
            x = _transition(x, filters)
        for _ in range(depth):
            x = _block(x)
    if num_classes is None:
        return x
    return classifier(relu(x), num_classes, "glorot_normal")


@network(_design("quicknet"))
def QuickNet(images: Any, num_classes: int | None) -> Any:
    """QuickNet: a residual network designed for fast binary convolutions.

    Example:
        >>> import qframe as qf
        >>> qf.zoo.QuickNet().count_params()  # doctest: +SKIP
        13243720

    Paper: Bannink et al., 2021, https://arxiv.org/abs/2011.09398
    """
    return _quicknet(images, num_classes, (4, 4, 4, 4), (64, 128, 256, 512))


@network(_design("quicknet_small"))
def QuickNetSmall(images: Any, num_classes: int | None) -> Any:
    """`QuickNet` with fewer channels in its first two sections.

    Example:
        >>> import qframe as qf
        >>> qf.zoo.QuickNetSmall().count_params()  # doctest: +SKIP
        12664344

    Paper: Bannink et al., 2021, https://arxiv.org/abs/2011.09398
    """
    return _quicknet(images, num_classes, (4, 4, 4, 4), (32, 64, 256, 512))


@network(_design("quicknet_large"))
def QuickNetLarge(images: Any, num_classes: int | None) -> Any:
    """`QuickNet` with twice as many layers.

    Example:
        >>> import qframe as qf
        >>> qf.zoo.QuickNetLarge().count_params()  # doctest: +SKIP
        23359304

    Paper: Bannink et al., 2021, https://arxiv.org/abs/2011.09398
    """
    return _quicknet(images, num_classes, (6, 8, 12, 6), (64, 128, 256, 512))
