"""Every use of private Keras, in one place; a contract test runs it on each Keras."""

from __future__ import annotations

import io
from typing import Any

from keras import ops
from keras.src.backend.common.variables import AutocastScope
from keras.src.saving import saving_lib
from keras.src.utils.naming import auto_name

__all__ = ["auto_name", "from_bytes", "latent_value", "to_bytes"]


def latent_value(variable: Any) -> Any:
    """The value of a variable (or tensor) in its own dtype, whatever is being called.

    While a layer of a mixed-precision policy is being called, Keras casts each variable
    as it is read. Quantizing after that cast would take the sign of an underflowed zero.
    """
    with AutocastScope(None):
        # TensorFlow's convert_to_tensor returns the tf.Variable, which custom gradients
        # refuse in eager mode; a copy is a real read.
        return ops.copy(variable)


def to_bytes(saveable: Any) -> bytes:
    """The ``.keras`` archive of a layer or model."""
    buffer = io.BytesIO()
    saving_lib._save_model_to_fileobj(saveable, buffer, "h5")
    return buffer.getvalue()


def from_bytes(archive: bytes) -> Any:
    """The inverse of `to_bytes`."""
    return saving_lib._load_model_from_fileobj(
        io.BytesIO(archive), custom_objects=None, compile=True, safe_mode=False
    )
