"""The parts that several networks have."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers

import qframe.layers as quantized


def batch_norm(x: Any, momentum: float = 0.9, epsilon: float = 1e-5, **options: Any) -> Any:
    """Batch normalization, as most of the networks were trained with it."""
    return layers.BatchNormalization(momentum=momentum, epsilon=epsilon, **options)(x)


def pointwise(x: Any, filters: int, initializer: str = "glorot_normal") -> Any:
    """A float convolution of single pixels."""
    return layers.Conv2D(filters, 1, use_bias=False, kernel_initializer=initializer)(x)


def binary_conv(x: Any, filters: int, size: int = 3, **options: Any) -> Any:
    """A quantized convolution without bias that keeps the size of images."""
    options = {"kernel_initializer": "glorot_normal", "padding": "same", **options}
    return quantized.QuantConv2D(filters, size, use_bias=False, **options)(x)


def signs(clip_value: float = 1.0) -> dict[str, Any]:
    """Signs of the inputs and of the weights, whose gradients reach to `clip_value`."""
    return {
        "input_quantizer": f"ste_sign(clip_value={clip_value})",
        "kernel_quantizer": f"ste_sign(clip_value={clip_value})",
        "kernel_constraint": f"weight_clip(clip_value={clip_value})",
    }


def stem(images: Any, filters: int, size: int, **options: Any) -> Any:
    """The float convolution at the beginning of a residual network."""
    options = {"padding": "same", "use_bias": False, **options}
    return layers.Conv2D(filters, size, **options)(images)


def image_stem(images: Any) -> tuple[Any, bool]:
    """`stem` for images of any size, and whether it shrank them.

    Those below 50 pixels, such as CIFAR's, keep their size.
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
    """The mean over all pixels, a float layer and a softmax; nothing for None."""
    if num_classes is None:
        return x
    x = layers.GlobalAveragePooling2D()(x)
    return softmax(layers.Dense(num_classes, kernel_initializer=initializer)(x))


def relu(x: Any) -> Any:
    """The positive part."""
    return layers.Activation(keras.activations.relu)(x)
