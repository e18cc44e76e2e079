"""Resolution of the arguments of a quantized layer."""

from __future__ import annotations

from typing import Any

from qframe import activations, constraints, quantizers
from qframe.errors import UnknownNameError


def module_of(key: str) -> Any:
    """The module with ``get`` and ``serialize`` for a ``_quantizer`` or ``_constraint``."""
    return quantizers if key.endswith("_quantizer") else constraints


def resolve(cls: Any, key: str, value: Any) -> Any:
    """The argument for Keras, with identifiers of qframe replaced by objects."""
    slot = key.removesuffix("_quantizer")
    if key.endswith("_constraint") or (slot != key and slot in cls.adapter.slots):
        return module_of(key).get(value)
    if key == "activation" and isinstance(value, str):
        try:
            return activations.get(value)
        except ValueError as neither:
            try:
                return quantizers.get(value)
            except UnknownNameError as unknown:
                raise unknown from neither
    return value
