"""Common parts of the networks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import layers

import qframe.layers as quantized


def batch_norm(x: Any, momentum: float = 0.9, epsilon: float = 1e-5, **options: Any) -> Any:
    """Batch normalization with the arguments of most networks."""
    return layers.BatchNormalization(momentum=momentum, epsilon=epsilon, **options)(x)


def pointwise(x: Any, filters: int, initializer: str = "glorot_normal") -> Any:
    """A float 1x1 convolution."""
    return layers.Conv2D(filters, 1, use_bias=False, kernel_initializer=initializer)(x)


def shortcut(x: Any, filters: int, norm: Callable[[Any], Any]) -> tuple[Any, int]:
    """The shortcut of a residual block and its strides; more filters halve the image."""
    if x.shape[-1] == filters:
        return x, 1
    # "same" supports odd image sizes.
    halved = layers.AveragePooling2D(2, padding="same")(x)
    return norm(pointwise(halved, filters)), 2


def binary_conv(x: Any, filters: int, size: int = 3, **options: Any) -> Any:
    """A quantized convolution without bias that keeps the image size."""
    options = {"kernel_initializer": "glorot_normal", "padding": "same", **options}
    return quantized.QuantConv2D(filters, size, use_bias=False, **options)(x)


def signs(clip_value: float = 1.0) -> dict[str, Any]:
    """Settings for signs of the inputs and weights, with gradients up to `clip_value`."""
    return {
        "input_quantizer": f"ste_sign(clip_value={clip_value})",
        "kernel_quantizer": f"ste_sign(clip_value={clip_value})",
        "kernel_constraint": f"weight_clip(clip_value={clip_value})",
    }


def stem(images: Any, filters: int, size: int, **options: Any) -> Any:
    """The first float convolution of a residual network."""
    options = {"padding": "same", "use_bias": False, **options}
    return layers.Conv2D(filters, size, **options)(images)


def image_stem(images: Any) -> tuple[Any, bool]:
    """`stem` for images of any size, and whether it reduces them.

    Images below 50 pixels, such as those of CIFAR, keep their size.
    """
    height = images.shape[1]
    if height is not None and height < 50:
        return stem(images, 64, 3, kernel_initializer="he_normal"), False
    x = relu(batch_norm(stem(images, 64, 7, strides=2, kernel_initializer="he_normal")))
    return layers.MaxPooling2D(3, strides=2, padding="same")(x), True


def softmax(x: Any) -> Any:
    """The probabilities, in float32 under mixed precision too."""
    return layers.Activation("softmax", dtype="float32")(x)


def classifier(x: Any, num_classes: int | None, initializer: str = "glorot_uniform") -> Any:
    """Global average pooling, a float layer and a softmax; `x` for None."""
    if num_classes is None:
        return x
    x = layers.GlobalAveragePooling2D()(x)
    return softmax(layers.Dense(num_classes, kernel_initializer=initializer)(x))


def relu(x: Any) -> Any:
    """The positive part."""
    return layers.Activation(keras.activations.relu)(x)
