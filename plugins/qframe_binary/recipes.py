"""Recipes of the two reference binary networks."""

from __future__ import annotations

import qframe as qf
from qframe.registry.identifier import Identifier
from qframe.validation import positive_number


def bnn(clip_value: float = 1.0) -> qf.Recipe:
    """Binarized neural network: one bit for weights and activations.

    The weights and the input of every quantizable layer become their signs. The first
    layer keeps a float input, which is the data. Latent weights are clipped. The model
    needs at least two such layers, and learns well with batch normalization before each
    sign.

    Args:
        clip_value: the largest magnitude with a straight-through gradient, to which latent
            weights are clipped, a positive number. Default 1.0.

    Raises:
        ArgumentError: `clip_value` is not a positive number.

    Example:
        >>> import keras, qframe as qf
        >>> layers = [keras.layers.Dense(4, name="a"), keras.layers.Dense(2, name="b")]
        >>> report = qf.plan(keras.Sequential([keras.Input((8,)), *layers]), "bnn")
        >>> ["input_quantizer" in row.settings for row in report.quantized]
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

    The weights become their signs times the mean magnitude of their channel. Activations
    and the last quantizable layer stay float. Latent weights are clipped to [-1, 1], the
    support of the gradient. The model needs at least two such layers.

    Example:
        >>> import keras, qframe as qf
        >>> layers = [keras.layers.Dense(4, name="a"), keras.layers.Dense(2, name="b")]
        >>> report = qf.plan(keras.Sequential([keras.Input((8,)), *layers]), "bwn")
        >>> [row.path for row in report.quantized]
        ['a']

    Paper: Rastegari et al., 2016, https://arxiv.org/abs/1603.05279
    """
    settings = {
        "weight_quantizer": "binary:magnitude_aware_sign(clip_value=1.0)",
        "weight_constraint": "binary:weight_clip(clip_value=1.0)",
    }
    return qf.Recipe(
        [(qf.last, None), (None, settings)],
        name="bwn",
        summary="one bit for weights, scaled by channel; the last layer stays float",
    )
