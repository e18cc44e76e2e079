"""Names of predicates in messages and saved files."""

from __future__ import annotations

import types
from typing import Any

import keras

from qframe.errors import ArgumentError


def label(predicate: Any) -> str:
    """The name of a predicate in messages."""
    return getattr(predicate, "__qualname__", None) or repr(predicate)


def serialized(predicate: Any) -> Any:
    """The config entry of a predicate.

    Raises:
        ArgumentError: it is neither a named function nor an object with a config.
    """
    is_function = isinstance(predicate, types.FunctionType)
    if predicate.__name__ == "<lambda>" if is_function else not _has_config(predicate):
        raise ArgumentError(
            f"the predicate {label(predicate)} cannot be saved: it has no name by which to "
            "load it. Define it as a function with def, below "
            "@keras.saving.register_keras_serializable(), or as an object of a class with "
            "get_config and from_config below the same."
        )
    return keras.saving.serialize_keras_object(predicate)


def _has_config(predicate: Any) -> bool:
    both = hasattr(predicate, "get_config") and hasattr(predicate, "from_config")
    return both and not isinstance(predicate, type)


def deserialized(config: Any, custom_objects: Any) -> Any:
    """The inverse of `serialized`.

    Raises:
        ArgumentError: this process does not know the predicate.
    """
    try:
        return keras.saving.deserialize_keras_object(config, custom_objects)
    except (TypeError, ValueError, ImportError, AttributeError) as error:
        name = config.get("registered_name") or config.get("config")
        raise ArgumentError(
            f"the predicate {name!r} of a CaseOptimizer is not known here. Import the "
            "module that registers it with @keras.saving.register_keras_serializable() "
            "before you load, or load with custom_objects={<its name>: <the function>}. "
            f"Keras says: {error}"
        ) from error
