"""Quantizers: the base class, and every registered one by name.

``get`` turns a string, config, class, callable or None into a quantizer; ``serialize``
is its inverse. A registered name is an attribute of this module: ``SteSign`` is the class,
``ste_sign`` an instance with the default parameters.
"""

from __future__ import annotations

from typing import Any

import keras

from qframe.errors import ArgumentError
from qframe.quantizers.base import Quantizer
from qframe.quantizers.callables import serialize_callable
from qframe.quantizers.channels import axes_within_channels, channel_shape
from qframe.quantizers.groups import Groups
from qframe.quantizers.integers import Integers
from qframe.quantizers.learned import Learned
from qframe.quantizers.surrogate import clip_through, round_through, straight_through
from qframe.quantizers.traits import Traits
from qframe.registry.configurable import attribute, interpret
from qframe.registry.discovery import registry

__all__ = [
    "Groups",
    "Integers",
    "Learned",
    "Quantizer",
    "Traits",
    "axes_within_channels",
    "channel_shape",
    "clip_through",
    "get",
    "round_through",
    "serialize",
    "straight_through",
]


def get(identifier: Any) -> Any:
    """The quantizer for an identifier.

    Args:
        identifier: a string ``"[namespace:]name[(key=literal, ...)]"``, a config dict of
            Keras or Larq, a `Quantizer` class or instance, any callable (a function
            tensor -> tensor, a Keras layer), or None.

    Returns:
        A callable tensor -> tensor, or None.

    Raises:
        QFrameError: the name, an argument or the type is wrong.

    Example:
        >>> import qframe as qf
        >>> qf.quantizers.get("ste_sign(clip_value=1.25)")
        binary:ste_sign(clip_value=1.25)
    """
    if isinstance(identifier, dict) and _is_foreign(identifier):
        return keras.saving.deserialize_keras_object(identifier)
    quantizer = interpret("quantizer", identifier)
    if quantizer is None or callable(quantizer):
        return quantizer
    raise ArgumentError(
        "a quantizer is a name such as 'ste_sign', a Quantizer, a callable, a Keras layer "
        f"or None; found {identifier!r} of type {type(identifier).__name__}."
    )


def serialize(quantizer: Any) -> Any:
    """The identifier of a quantizer for a config, or its Keras config.

    Raises:
        QFrameError: it is a class, function or layer that is not registered.

    Example:
        >>> import qframe as qf
        >>> qf.quantizers.serialize(qf.quantizers.SteSign())
        'binary:ste_sign(clip_value=1.0)'
    """
    if quantizer is None:
        return None
    if isinstance(quantizer, Quantizer):
        return str(quantizer.identifier)
    return serialize_callable(quantizer)


def _is_foreign(config: dict[str, Any]) -> bool:
    """Return whether a config describes a callable or layer other than a `Quantizer`."""
    return config.get("module") is not None and not str(
        config.get("registered_name")
    ).startswith("qframe>Quantizer")


def __getattr__(name: str) -> Any:
    return attribute("quantizer", name)


def __dir__() -> list[str]:
    components, plugins = registry.components("quantizer"), registry.plugins
    names = ((n, c.namespace) for c in components for n in c.names)
    # One that is also the namespace of another plugin has to be written with its own.
    return sorted({*__all__, *(n for n, own in names if n not in plugins or n == own)})
