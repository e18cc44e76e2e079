"""Functions and Keras layers as quantizers, in configs."""

from __future__ import annotations

from typing import Any

import keras

from qframe.errors import QFrameError, shown


def serialize_callable(quantizer: Any) -> Any:
    """The Keras config of a callable.

    Raises:
        QFrameError: a process could not load it again.
    """
    layer = isinstance(quantizer, keras.layers.Layer)
    named = type(quantizer) if layer else quantizer
    if not (_is_registered(named) or _is_of_keras(quantizer, layer)):
        name = getattr(named, "__name__", "f")
        advice = "Write "
        if not name.isidentifier():
            advice, name = "Give it a name, by def or class. Then write ", "f"
        raise QFrameError(
            f"{shown(quantizer)} is not registered, so a saved model could not name it. "
            f"{advice}qframe.utils.register_keras_custom_object({name}) before "
            "saving and before loading, or make it a qframe.quantizers.Quantizer and write "
            "qframe.register."
        )
    return keras.saving.serialize_keras_object(quantizer)


def _is_registered(named: Any) -> bool:
    """Return whether Keras finds a function or class by its saved name."""
    if not hasattr(named, "__name__"):
        return False
    name = keras.saving.get_registered_name(named)
    return keras.saving.get_registered_object(name) is named


def _is_of_keras(quantizer: Any, layer: bool) -> bool:
    """Return whether it is a part of Keras and can be loaded; only some functions can."""
    owner = type(quantizer) if layer else quantizer
    if str(getattr(owner, "__module__", "")).partition(".")[0] != "keras":
        return False
    if not layer:
        try:
            config = keras.saving.serialize_keras_object(quantizer)
            keras.saving.deserialize_keras_object(config)
        # The type of the error depends on the version.
        except Exception:
            return False
    return True
