"""Recipes for ternary networks."""

from __future__ import annotations

import qframe as qf


def ternary() -> qf.Recipe:
    """Ternary weights with a learned scale for each sign, and activations in float.

    The last quantizable layer stays float. The model needs at least two such layers, and
    training: each scale starts at a mean magnitude.

    Example:
        >>> import keras, qframe as qf
        >>> layers = [keras.layers.Dense(4, name="a"), keras.layers.Dense(2, name="b")]
        >>> report = qf.plan(keras.Sequential([keras.Input((8,)), *layers]), "ternary")
        >>> [row.path for row in report.quantized]
        ['a']

    Paper: Zhu et al., 2016, https://arxiv.org/abs/1612.01064
    """
    settings = {"weight_quantizer": "ternary:trained_ternary"}
    return qf.Recipe(
        [(qf.last, None), (None, settings)],
        name="ternary",
        summary="ternary weights with learned scales; the last layer stays float",
    )
