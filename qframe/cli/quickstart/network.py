"""The network of Larq's first tutorial: a binary convolutional network for digits."""

from __future__ import annotations

from typing import Any

import keras

import qframe as qf


def build() -> Any:
    """The compiled network, for images of 28x28 pixels between -1 and 1.

    Every kernel is binary, and so is every activation except the image.

    Reference: https://docs.larq.dev/larq/tutorials/mnist/
    """
    kernel = {
        "kernel_quantizer": "ste_sign",
        "kernel_constraint": "weight_clip",
        "use_bias": False,
    }
    both = {"input_quantizer": "ste_sign", **kernel}
    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            qf.layers.QuantConv2D(32, (3, 3), **kernel),
            keras.layers.MaxPooling2D((2, 2)),
            keras.layers.BatchNormalization(scale=False),
            qf.layers.QuantConv2D(64, (3, 3), **both),
            keras.layers.MaxPooling2D((2, 2)),
            keras.layers.BatchNormalization(scale=False),
            qf.layers.QuantConv2D(64, (3, 3), **both),
            keras.layers.BatchNormalization(scale=False),
            keras.layers.Flatten(),
            qf.layers.QuantDense(64, **both),
            keras.layers.BatchNormalization(scale=False),
            qf.layers.QuantDense(10, **both),
            keras.layers.BatchNormalization(scale=False),
            keras.layers.Activation("softmax"),
        ],
        name="quickstart",
    )
    # Keras would compile with XLA, which takes twice as long for this network on a CPU.
    jit_compile = False if keras.backend.backend() == "tensorflow" else "auto"
    model.compile(
        "adam",
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
        jit_compile=jit_compile,
    )
    return model
