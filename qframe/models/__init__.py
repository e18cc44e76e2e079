"""Whole models: load, and say what they cost."""

from __future__ import annotations

import os
from typing import Any

__all__ = ["load_model"]


def load_model(path: str | os.PathLike[str], **kwargs: Any) -> Any:
    """Load a model that holds quantized layers.

    The same as `keras.saving.load_model` once ``qframe.layers`` is imported, which this
    function does.

    Args:
        path: a ``.keras`` file.
        **kwargs: as in `keras.saving.load_model`.

    Example:
        >>> import qframe as qf
        >>> model = qf.load_model("model.keras")  # doctest: +SKIP
    """
    import keras

    import qframe.layers  # noqa: F401  (registers the layers with Keras)

    return keras.saving.load_model(path, **kwargs)
