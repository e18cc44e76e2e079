"""What the arguments of a quantized layer mean."""

from __future__ import annotations

from typing import Any

import keras

from qframe import constraints, quantizers
from qframe.errors import UnknownNameError


def resolve(cls: Any, key: str, value: Any) -> Any:
    """What an argument of a quantized layer means: our names first made objects."""
    if key.endswith("_quantizer") and key.removesuffix("_quantizer") in cls.adapter.slots:
        return quantizers.get(value)
    if key.endswith("_constraint"):
        return constraints.get(value)
    if key == "activation" and isinstance(value, str):
        try:
            return keras.activations.get(value)
        except ValueError as unknown_to_keras:
            try:
                return quantizers.get(value)
            except UnknownNameError as unknown:
                raise unknown from unknown_to_keras
    return value
