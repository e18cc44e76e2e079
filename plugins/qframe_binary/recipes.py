"""The two binary networks that others are compared with."""

from __future__ import annotations

import qframe as qf
from qframe.registry.identifier import Identifier
from qframe.validation import positive_number


def bnn(clip_value: float = 1.0) -> qf.Recipe:
    """Binarized neural network: one bit for weights and activations.

    Every layer that can be quantized gets the sign of its weights and of its input; the
    first one of its weights only, since its input is the data. Latent weights are clipped.
    The model needs two such layers at least, and learns well where batch normalization
    stands before each sign.

    Args:
        clip_value: to where the straight-through gradient reaches and latent weights are
            clipped, a positive number. Default 1.0.

    Raises:
        ArgumentError: `clip_value` is not a positive number.

    Example:
        >>> import keras, qframe as qf
        >>> layers = [keras.layers.Dense(4, name="a"), keras.layers.Dense(2, name="b")]
        >>> report = qf.plan(keras.Sequential([keras.Input((8,)), *layers]), "bnn")
        >>> ["input_quantizer" in row.words for row in report.quantized]
        [False, True]

    Paper: Courbariaux et al., 2016, https://arxiv.org/abs/1602.02830
    """
    clip = {"clip_value": positive_number("bnn", "clip_value", clip_value)}
    sign = str(Identifier("ste_sign", "binary", clip))
    weights = {
        "weight_quantizer": sign,
        "weight_constraint": str(Identifier("weight_clip", "binary", clip)),
    }
    return qf.Recipe(
        [(qf.first, weights), (None, {"input_quantizer": sign, **weights})],
        name="bnn",
        summary="one bit for weights and activations; the first layer's input stays float",
    )


def bwn() -> qf.Recipe:
    """Binary-weight network: one bit for weights, with a scale for each output channel.

    The weights become their signs times the mean magnitude of their channel; activations
    stay as they are, and so does the last layer that can be quantized. Latent weights are
    clipped to [-1, 1], where the gradient is. The model needs two such layers at least.

    Example:
        >>> import keras, qframe as qf
        >>> layers = [keras.layers.Dense(4, name="a"), keras.layers.Dense(2, name="b")]
        >>> report = qf.plan(keras.Sequential([keras.Input((8,)), *layers]), "bwn")
        >>> [row.path for row in report.quantized]
        ['a']

    Paper: Rastegari et al., 2016, https://arxiv.org/abs/1603.05279
    """
    words = {
        "weight_quantizer": "binary:magnitude_aware_sign(clip_value=1.0)",
        "weight_constraint": "binary:weight_clip(clip_value=1.0)",
    }
    return qf.Recipe(
        [(qf.last, None), (None, words)],
        name="bwn",
        summary="one bit for weights, scaled by channel; the last layer stays float",
    )
