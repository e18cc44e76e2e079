"""DoReFa-Net."""

from __future__ import annotations

from typing import Any

from keras import layers

import qframe.layers as quantized
from qframe.zoo.network import Design, larq_files, network
from qframe.zoo.parts import batch_norm, binary_conv, softmax

_QUANTIZERS = {"input_quantizer": "dorefa(k_bit=2)", "kernel_quantizer": "dorefa_sign"}


def _norm(x: Any) -> Any:
    return batch_norm(x, epsilon=1e-4, scale=False)


@network(
    Design(
        "dorefanet", larq_files("dorefanet-v0.1.0", notop="dorefanet-v0.1.1"), sized=True
    )
)
def DoReFaNet(images: Any, num_classes: int | None) -> Any:
    """DoReFa-Net: AlexNet with one-bit weights and two-bit activations.

    Example:
        >>> import qframe as qf
        >>> qf.zoo.DoReFaNet().count_params()  # doctest: +SKIP
        62403912

    Paper: Zhou et al., 2016, https://arxiv.org/abs/1606.06160
    """
    x = layers.Conv2D(96, 12, strides=4)(images)
    for filters, size, padding in (
        (256, 5, "same"),
        (384, 3, "same"),
        (384, 3, None),
        (256, 3, "valid"),
    ):
        x = binary_conv(
            x, filters, size, kernel_initializer="glorot_uniform", **_QUANTIZERS
        )
        x = _norm(x)
        if padding:
            x = layers.MaxPooling2D(3, strides=2, padding=padding)(x)
    if num_classes is None:
        return x
    x = layers.Flatten()(x)
    for _ in range(2):
        x = _norm(quantized.QuantDense(4096, use_bias=False, **_QUANTIZERS)(x))
    # The input of the last layer is clipped to [0, 1] but not quantized.
    x = layers.ReLU(max_value=1)(x)
    return softmax(layers.Dense(num_classes)(x))
