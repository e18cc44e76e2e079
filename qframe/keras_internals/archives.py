"""Layers and models as bytes."""

from __future__ import annotations

import io
from typing import Any

from keras.src.saving import saving_lib


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


def reduce(saveable: Any) -> tuple[Any, ...]:
    """The result of ``__reduce__`` for a generated class.

    That of Keras pickles a reference to the class, which has no importable name here.
    """
    return from_bytes, (to_bytes(saveable),)
