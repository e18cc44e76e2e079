"""What the arguments of a quantized layer mean, and what its saved config needs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras

from qframe import constraints, quantizers
from qframe.errors import UnknownNameError
from qframe.identifier import Identifier
from qframe.registry import FIRST_PARTY, registry

# The key of a config that says which distributions its identifiers come from.
REQUIRES = "qframe_requires"


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


def required_distributions(config: Mapping[str, Any]) -> dict[str, str]:
    """Namespace -> distribution, for the identifiers of other people's plugins."""
    plugins = registry.discover()
    required = {}
    for key, value in config.items():
        if isinstance(value, str) and key.endswith(
            ("_quantizer", "_constraint", "activation")
        ):
            namespace = Identifier.parse(value).namespace
            if namespace in plugins and plugins[namespace].distribution != FIRST_PARTY:
                required[namespace] = plugins[namespace].distribution
    return required


def check_required_distributions(required: Mapping[str, str]) -> None:
    for namespace, distribution in required.items():
        plugin = registry.discover().get(namespace)
        if plugin is None or plugin.disabled or plugin.error:
            state = "is not installed"
            if plugin is not None:
                state = f"is broken: {plugin.error}" if plugin.error else "is disabled"
            raise UnknownNameError(
                f"this model needs the plugin {namespace!r}, which {state}. "
                f"Write: pip install {distribution}"
            )
