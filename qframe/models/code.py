"""What the code of users mentions, as far as it can be followed without running it."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Iterator
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import keras

from qframe.keras_internals import is_library

# By these, code reaches attributes whose names it does not mention.
_ANY = {
    *("getattr", "vars", "__dict__", "get_weights", "weights", "variables"),
    *("trainable_weights", "trainable_variables"),
    *("non_trainable_weights", "non_trainable_variables"),
}
# How many decorators a function may have: one may name itself for what it wraps.
_DEEPEST = 100


class Mentions:
    """Whether code of users mentions some attributes, or may reach any."""

    def __init__(self, attributes: set[str], variables: set[int]) -> None:
        """Take the names of the attributes, and the ids of the variables under them."""
        self._sought = attributes | _ANY
        self._variables = variables
        self._classes: dict[type, bool] = {}

    def of(self, layer: Any) -> bool:
        """Whether what a layer runs does, without the layers in it."""
        cls = type(layer)
        try:
            if cls not in self._classes:
                self._classes[cls] = self._in([cls])
            held = [
                v for v in vars(layer).values() if not isinstance(v, keras.layers.Layer)
            ]
            return self._classes[cls] or self._in(held)
        # Objects of users may do anything where they are asked; then there is no note.
        except Exception:
            return False

    def _in(self, values: list[Any]) -> bool:
        found: dict[int, Any] = {}
        left = list(values)
        while left:
            value = _plain(left.pop())
            if id(value) in self._variables:
                return True
            if not isinstance(value, (FunctionType, type, list, tuple, set, dict)):
                value = type(value)
            if id(value) in found:
                continue
            found[id(value)] = value  # held, so that its id stays its own
            if isinstance(value, type):
                left += _members(value)
            elif isinstance(value, FunctionType):
                if is_library(value.__module__):
                    continue
                if not self._sought.isdisjoint(_names(value.__code__)):
                    return True
                left += _used(value)
            else:
                left += value.values() if isinstance(value, dict) else value
        return False


def _plain(value: Any) -> Any:
    """The function within a method, a decorated one or a partial."""
    for _ in range(_DEEPEST):
        if isinstance(value, functools.partial):
            value = value.func
        elif isinstance(value, (staticmethod, classmethod, MethodType)):
            value = value.__func__
        elif isinstance(value, property):
            value = value.fget
        elif callable(value):
            inner = inspect.getattr_static(value, "__wrapped__", None)
            if inner is None:
                break
            value = inner
        else:
            break
    return value


def _members(cls: type) -> Iterator[Any]:
    """What users define in a class and its bases; one of ours may have a base of theirs."""
    for base in cls.__mro__:
        if not is_library(base.__module__):
            yield from vars(base).values()


def _used(function: FunctionType) -> Iterator[Any]:
    """The values of the global names and of the cells that a function uses."""
    names = set(_names(function.__code__))
    for value in [function.__globals__[n] for n in names if n in function.__globals__]:
        if not isinstance(value, ModuleType):
            yield value
        elif not is_library(value.__name__):
            yield from (vars(value)[name] for name in names if name in vars(value))
    for cell in function.__closure__ or ():
        with contextlib.suppress(ValueError):  # it is not filled yet
            yield cell.cell_contents


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)
        elif isinstance(constant, str):
            yield constant  # for getattr by another name
