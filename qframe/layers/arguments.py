"""What the arguments of a quantized layer mean."""

from __future__ import annotations

from typing import Any

from qframe import activations, constraints, quantizers
from qframe.errors import UnknownNameError


def vocabulary(key: str) -> Any:
    """The module with ``get`` and ``serialize`` for a ``_quantizer`` or ``_constraint``."""
    return quantizers if key.endswith("_quantizer") else constraints


def resolve(cls: Any, key: str, value: Any) -> Any:
    """What an argument of a quantized layer means: our names first made objects."""
    slot = key.removesuffix("_quantizer")
    if key.endswith("_constraint") or (slot != key and slot in cls.adapter.slots):
        return vocabulary(key).get(value)
    if key == "activation" and isinstance(value, str):
        try:
            return activations.get(value)
        except ValueError as neither:
            try:
                return quantizers.get(value)
            except UnknownNameError as unknown:
                raise unknown from neither
    return value
