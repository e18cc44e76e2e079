"""A custom layer; the manifest names the attribute of its kernel."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable(package=__name__.partition(".")[0])
class ChannelMix(keras.layers.Layer):
    r"""Mixes the channels of its input, and keeps their number.

    .. math:: y = x W

    Args:
        kernel_initializer: of W, as in `keras.layers.Dense`. Default "orthogonal".
        **kwargs: as in `keras.layers.Layer`.

    Example:
        >>> layer = ChannelMix()
        >>> layer(ops.ones((2, 4))).shape[-1]
        4
    """

    def __init__(self, kernel_initializer: Any = "orthogonal", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)

    def build(self, input_shape: Any) -> None:
        channels = input_shape[-1]
        self.matrix = self.add_weight(
            name="matrix", shape=(channels, channels), initializer=self.kernel_initializer
        )

    def call(self, inputs: Any) -> Any:
        return ops.matmul(inputs, self.matrix)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        initializer = keras.initializers.serialize(self.kernel_initializer)
        return {**super().get_config(), "kernel_initializer": initializer}
