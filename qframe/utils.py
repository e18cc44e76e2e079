"""Helpers with the names of Larq."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import keras

from qframe.registry.configurable import Configurable, snake_case
from qframe.registry.discovery import registry
from qframe.tables import readable_size
from qframe.validation import integer_within

__all__ = [
    "memory_as_readable_str",
    "register_alias",
    "register_keras_custom_object",
    "set_precision",
]

Object = TypeVar("Object")


def memory_as_readable_str(num_bits: int) -> str:
    """A size in bits as bytes, in units of 1024.

    Example:
        >>> import qframe as qf
        >>> qf.utils.memory_as_readable_str(8 * 1536)
        '1.50 KiB'
    """
    return readable_size(num_bits)


def register_keras_custom_object(cls: Object) -> Object:
    """A decorator: let Keras find a class or function by its name when it loads a file.

    A quantizer or constraint is registered with qframe too, as `qframe.register` does, and
    under the name of its class.

    Example:
        >>> import keras, qframe as qf
        >>> @qf.utils.register_keras_custom_object
        ... def tripled(x):
        ...     return 3 * x
        >>> keras.saving.get_custom_objects().pop("tripled") is tripled
        True
    """
    name: str = cls.__name__  # type: ignore[attr-defined]
    return _register(cls, snake_case(name), name)


def register_alias(name: str) -> Callable[[Object], Object]:
    """A decorator: let Keras find a class or function by another name.

    A quantizer or constraint is registered with qframe under that name too.

    Example:
        >>> import keras, qframe as qf
        >>> @qf.utils.register_alias("thrice")
        ... def tripled(x):
        ...     return 3 * x
        >>> keras.saving.get_custom_objects().pop("thrice") is tripled
        True
    """
    return lambda cls: _register(cls, name, name)


def _register(cls: Object, name: str, name_in_keras: str) -> Object:
    if isinstance(cls, type) and issubclass(cls, Configurable):
        registry.register(cls.kind, cls, name, name_in_keras)
    keras.saving.get_custom_objects()[name_in_keras] = cls
    return cls


def set_precision(precision: int = 32) -> Callable[[Object], Object]:
    """A decorator: state how many bits a plain function quantizes to.

    The summary reads it. A `qframe.quantizers.Quantizer` states it as ``precision``.

    Args:
        precision: the bits of a value, from 1 to 64. Default 32.

    Raises:
        ArgumentError: the precision is not such an integer.

    Example:
        >>> import keras, qframe as qf
        >>> @qf.utils.set_precision(1)
        ... def sign(x):
        ...     return keras.ops.where(x >= 0, 1.0, -1.0)
        >>> qf.layers.QuantDense(2, kernel_quantizer=sign).kernel_quantizer.precision
        1
    """
    bits: Any = integer_within("set_precision", "precision", precision, 1, 64)

    def decorate(function: Object) -> Object:
        function.precision = bits  # type: ignore[attr-defined]
        return function

    return decorate
