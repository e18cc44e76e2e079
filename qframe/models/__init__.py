"""Whole models: load, and say what they cost."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from qframe.models.model_profile import ModelProfile
from qframe.models.records import LayerProfile, MacProfile, WeightProfile

__all__ = [
    "LayerProfile",
    "MacProfile",
    "ModelProfile",
    "WeightProfile",
    "load_model",
    "profile",
    "summary",
]


def load_model(path: str | os.PathLike[str], **kwargs: Any) -> Any:
    """Load a model that holds quantized layers.

    The same as `keras.saving.load_model` once ``qframe.layers`` and ``qframe.optimizers``
    are imported, which this function does.

    Args:
        path: a ``.keras`` file.
        **kwargs: as in `keras.saving.load_model`.

    Example:
        >>> import qframe as qf
        >>> model = qf.load_model("model.keras")  # doctest: +SKIP
    """
    import keras

    import qframe.layers  # (they register with Keras)
    import qframe.optimizers  # noqa: F401

    return keras.saving.load_model(path, **kwargs)


def profile(model: Any) -> ModelProfile:
    """What a model costs, for one sample: bits, memory and MACs of each layer.

    A MAC is a multiplication and an addition; its precision is that of its wider
    factor, 32 where an input is not quantized. A bias is no MAC. Batch normalization
    counts as it is stored for inference: one offset and one scale a channel.

    Args:
        model: a built Keras model or layer. Within functional and sequential models
            every call counts with its own shapes. Where a model's or layer's call is
            code, each layer in it counts once, with the shapes that it was built with;
            products of two activations in such code (or in a Lambda) are not seen.

    Returns:
        The profile. What cannot be known is None in it and ``?`` in its tables.

    Raises:
        ArgumentError: `model` is no Keras model or layer.
        NotBuiltError: it has no weights yet.

    Example:
        >>> import keras, qframe as qf
        >>> binary = {"kernel_quantizer": "ste_sign", "kernel_constraint": "weight_clip"}
        >>> layer = qf.layers.QuantDense(3, use_bias=False, **binary)
        >>> model = keras.Sequential([keras.Input((8,)), layer])
        >>> qf.models.profile(model).memory
        24
    """
    from qframe.models.profiling import profile_of

    return profile_of(model)


def summary(
    model: Any,
    print_fn: Callable[[str], Any] | None = None,
    include_macs: bool = True,
) -> ModelProfile:
    """Print what a model costs: a table of its layers, and one of totals.

    Args:
        model: as in `profile`.
        print_fn: called with the text of each table; `print` by default.
        include_macs: whether to print the numbers of MACs too. Default True.

    Returns:
        The profile that was printed.

    Raises:
        ArgumentError: `model` is no Keras model or layer.
        NotBuiltError: it has no weights yet.

    Example:
        >>> import keras, qframe as qf
        >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(3)])
        >>> profile = qf.models.summary(model, print_fn=lambda text: None)
    """
    found = profile(model)
    for table in found.tables(include_macs):
        (print_fn or print)(table.to_text())
    return found
