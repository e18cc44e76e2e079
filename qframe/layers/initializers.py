"""Initializers of reference networks."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from qframe.errors import ArgumentError


@keras.saving.register_keras_serializable("qframe")
class BlurPool(keras.initializers.Initializer):
    r"""The kernel of a depthwise convolution that blurs before subsampling.

    Each channel is the outer product of a row of binomial numbers with itself, divided by
    its sum: of (1, 2, 1) for three pixels.

    Raises:
        ArgumentError: the kernel is not square, or not depthwise.

    Example:
        >>> from qframe.layers.initializers import BlurPool
        >>> keras.ops.convert_to_numpy(BlurPool()((2, 2, 1, 1))).ravel().tolist()
        [0.25, 0.25, 0.25, 0.25]

    Paper: Zhang, 2019, https://arxiv.org/abs/1904.11486
    """

    def __call__(self, shape: Any, dtype: Any = None) -> Any:
        if len(shape) != 4 or shape[0] != shape[1]:
            raise ArgumentError(
                "BlurPool is for kernels of the shape (size, size, channels, multiplier), "
                f"found {tuple(shape)}."
            )
        row = np.ones(1)
        for _ in range(shape[0] - 1):
            row = np.convolve(row, [1, 1])
        kernel = np.outer(row, row) / row.sum() ** 2
        full = np.broadcast_to(kernel[:, :, None, None], shape)
        return keras.ops.convert_to_tensor(full, dtype or keras.config.floatx())

    def get_config(self) -> dict[str, Any]:
        """An empty config, since it has no arguments."""
        return {}
