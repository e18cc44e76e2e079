"""Overrides of Keras methods by a subclass or an individual layer."""

from __future__ import annotations

import dis
import functools
import inspect
from collections.abc import Iterator
from types import CodeType
from typing import Any

import attrs

__all__ = ["Override", "methods_of_call", "override_of"]

# The generated subclasses of `qframe.layers` quantize the inputs of the call of Keras.
_TRUSTED = ("keras", "qframe.layers")
_ATTRIBUTES = ("LOAD_ATTR", "LOAD_METHOD", "LOAD_SUPER_ATTR", "STORE_ATTR")
# Python calls these before any other method.
_IMPLICIT = frozenset({"__call__", "__getattribute__", "__getattr__"})


@attrs.frozen
class Override:
    """Code that replaces a method of Keras.

    Args:
        owner: the name of the class or layer that overrides it.
        base: the Keras class.
        method: the name of the method or property.
    """

    owner: str
    base: str
    method: str

    def __str__(self) -> str:
        return f"{self.owner} overrides {self.method}, which the call of {self.base} uses"


def override_of(layer: Any) -> Override | None:
    """The first override of a method that the call of a layer uses.

    Args:
        layer: a Keras layer or model.

    Returns:
        The override; None where all methods are those of Keras.

    Example:
        >>> import keras
        >>> from qframe.keras_internals.overrides import override_of
        >>> class Doubled(keras.layers.Dense):
        ...     def call(self, inputs):
        ...         return 2 * super().call(inputs)
        >>> override_of(Doubled(3)).method
        'call'
        >>> override_of(keras.layers.Dense(3)) is None
        True
    """
    mro = type(layer).__mro__
    base = next(cls for cls in mro if cls.__module__.split(".")[0] == "keras")
    methods, attributes = methods_of_call(base), _attributes_of_call(base)
    for cls in mro:
        if cls in base.__mro__ or _is_trusted(cls.__module__):
            continue
        for name, member in vars(cls).items():
            # A data descriptor has precedence over the attributes of the layer.
            if name in methods or (name in attributes and hasattr(member, "__set__")):
                return Override(cls.__name__, base.__name__, name)
    for name in sorted(methods - _IMPLICIT):
        member = inspect.getattr_static(base, name)
        if name in vars(layer) and not hasattr(member, "__set__"):
            return Override(f"the layer {layer.name!r}", base.__name__, name)
        if any(not _is_trusted(str(f.__module__)) for f in _functions(member)):
            return Override(base.__name__, base.__name__, name)
    return None


@functools.cache
def methods_of_call(base: type) -> frozenset[str]:
    """The methods and properties of a Keras class that its call uses, itself included.

    They are read from the bytecode of `call` and of the methods that it uses, which
    follows Keras without a list. Any attribute counts as one of the layer, so that the
    result has too many names rather than too few.
    """
    return frozenset(name for name, _ in _reached(base)) | _IMPLICIT


@functools.cache
def _attributes_of_call(base: type) -> frozenset[str]:
    return frozenset(n for _, function in _reached(base) for n in _names(function))


def _reached(base: type) -> list[tuple[str, Any]]:
    """The functions that a call may run, by name."""
    by_name: dict[str, list[Any]] = {}
    names = ["call"]
    while names:
        name = names.pop()
        # What leads to a call is not a part of it: a stacked cell names `__call__`.
        if name in by_name or name in _IMPLICIT:
            continue
        functions = by_name[name] = []
        for cls in base.__mro__:
            if name in vars(cls) and cls is not object:
                functions += _functions(vars(cls)[name])
                if not any("super" in f.__code__.co_names for f in functions):
                    break
        for function in functions:
            names += _names(function)
    return [(name, f) for name, functions in by_name.items() for f in functions]


def _functions(member: Any) -> Iterator[Any]:
    """The Python functions of an entry of a class."""
    if isinstance(member, property):
        parts = [member.fget, member.fset]
    else:
        parts = [getattr(member, "__func__", member)]
    for part in parts:
        inner = inspect.unwrap(part) if callable(part) else None
        if hasattr(inner, "__code__"):
            yield inner


def _names(function: Any) -> Iterator[str]:
    """The names of the attributes that a function reads or writes."""
    for code in _codes(function.__code__):
        for instruction in dis.get_instructions(code):
            if instruction.opname in _ATTRIBUTES:
                yield str(instruction.argval)


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def _is_trusted(module: str) -> bool:
    return any(module == name or module.startswith(f"{name}.") for name in _TRUSTED)
