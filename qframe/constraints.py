"""Constraints on latent weights, applied after each optimizer step."""

from __future__ import annotations

from typing import Any, ClassVar

import keras

from qframe.registry.configurable import Configurable, attribute, interpret

__all__ = ["Constraint", "get", "serialize"]


class Constraint(Configurable, keras.constraints.Constraint):
    """A Keras constraint that an identifier describes.

    A subclass defines ``__call__(w)`` and stores each parameter of ``__init__`` under the
    same name.
    """

    kind: ClassVar[str] = "constraint"


def get(identifier: Any) -> Any:
    """The constraint for an identifier: that of Keras if it exists, else a registered one.

    Raises:
        QFrameError: neither Keras nor a plugin knows the name, or an argument is wrong.

    Example:
        >>> import qframe as qf
        >>> qf.constraints.get("weight_clip(clip_value=0.5)")
        binary:weight_clip(clip_value=0.5)
    """
    try:
        return keras.constraints.get(identifier)
    except ValueError:
        if not isinstance(identifier, str):
            raise
    return interpret("constraint", identifier)


def serialize(constraint: Any) -> Any:
    """A constraint for a config: an identifier, or the config of Keras."""
    if isinstance(constraint, Constraint):
        return str(constraint.identifier)
    return keras.constraints.serialize(constraint) if constraint is not None else None


def __getattr__(name: str) -> Any:
    return attribute("constraint", name)
