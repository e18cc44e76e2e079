"""What the code of users mentions, as far as it can be followed without running it."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterator
from types import CodeType, FunctionType, MethodType
from typing import Any

import keras

from qframe.keras_internals import is_library

# By these, code reaches attributes whose names it does not mention.
_ANY = {
    *("getattr", "vars", "__dict__", "get_weights", "weights", "variables"),
    *("trainable_weights", "trainable_variables"),
    *("non_trainable_weights", "non_trainable_variables"),
}


def mentions(layer: Any, attributes: frozenset[str]) -> bool:
    """Whether code of users that a layer runs mentions an attribute, or may reach any.

    Args:
        layer: without the layers in it.
        attributes: their names.
    """
    found: dict[int, Any] = {}
    _follow(type(layer), found)
    for value in vars(layer).values():
        if not isinstance(value, keras.layers.Layer):
            _follow(value, found)
    sought = attributes | _ANY
    return any(
        not sought.isdisjoint(_names(value.__code__))
        for value in found.values()
        if isinstance(value, FunctionType)
    )


def _follow(value: Any, found: dict[int, Any]) -> None:
    """Add what of users is reached from a function, a class or an object."""
    if isinstance(value, functools.partial):
        value = value.func
    while callable(value):
        # Statically: objects of users may do anything where they are asked.
        inner = inspect.getattr_static(value, "__wrapped__", None)
        if inner is None:
            break
        value = inner
    if isinstance(value, MethodType):
        value = value.__func__
    cls = value if isinstance(value, type) else type(value)
    if isinstance(value, FunctionType):
        if is_library(str(value.__module__)) or id(value) in found:
            return
        found[id(value)] = value
        for other in _used(value):
            _follow(other, found)
    elif id(cls) not in found:
        found[id(cls)] = cls  # one of ours may be made of one of theirs
        for base in cls.__mro__:
            if not is_library(base.__module__):
                for member in vars(base).values():
                    _follow(member.fget if isinstance(member, property) else member, found)


def _used(function: FunctionType) -> Iterator[Any]:
    """The values of the global names and of the cells that a function uses."""
    for name in _names(function.__code__):
        if name in function.__globals__:
            yield function.__globals__[name]
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # it is not filled yet
            continue


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)
        elif isinstance(constant, str):
            yield constant  # for getattr by another name
