"""Load whole models, and profile their cost."""

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
    """Load a model with quantized layers.

    The same as `keras.saving.load_model` after an import of ``qframe.layers`` and
    ``qframe.optimizers``.

    Args:
        path: a ``.keras`` file.
        **kwargs: as in `keras.saving.load_model`.

    Example:
        >>> import qframe as qf
        >>> model = qf.load_model("model.keras")  # doctest: +SKIP
    """
    import keras

    import qframe.layers  # both register with Keras
    import qframe.optimizers  # noqa: F401

    return keras.saving.load_model(path, **kwargs)


def profile(model: Any) -> ModelProfile:
    """Return the bits, memory and MACs of each layer of a model, for one sample.

    A MAC is a multiplication and an addition. Its precision is that of the wider factor,
    32 where an input is not quantized. A bias counts no MACs. Batch normalization counts
    as in inference: one offset and one scale per channel.

    Args:
        model: a built Keras model or layer. Within functional and sequential models
            every call counts with its own shapes. Where the call of a model or layer is
            code, each layer in it counts once, with the shapes that it was built with.
            Products of two activations in such code (or in a Lambda) are not counted.

    Returns:
        The profile. An unknown number is None in it and ``?`` in its tables.

    Raises:
        ArgumentError: `model` is not a Keras model or layer.
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
    """Print the cost of a model: a table of its layers, and one of totals.

    Args:
        model: as in `profile`.
        print_fn: the function that gets the text of each table; `print` by default.
        include_macs: whether to print the numbers of MACs too. Default True.

    Returns:
        The profile that was printed.

    Raises:
        ArgumentError: `model` is not a Keras model or layer.
        NotBuiltError: it has no weights yet.

    Example:
        >>> import keras, qframe as qf
        >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(3)])
        >>> profile = qf.models.summary(model, print_fn=lambda text: None)
    """
    costs = profile(model)
    for table in costs.tables(include_macs):
        (print_fn or print)(table.to_text())
    return costs
