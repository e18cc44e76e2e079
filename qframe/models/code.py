"""Search the code of users for attributes and variables, without running it."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Collection, Iterator
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import keras

from qframe import keras_internals
from qframe.keras_internals import is_library

# Code can reach any attribute through these names.
_ANY = {
    *("getattr", "vars", "__dict__", "get_weights", "weights", "variables"),
    *("trainable_weights", "trainable_variables"),
    *("non_trainable_weights", "non_trainable_variables"),
}
# The limit of nested decorators, since a decorator may refer to itself in `__wrapped__`.
_MAX_DECORATORS = 100


def hidden_layers(layer: Any, ids: Collection[int]) -> list[Any]:
    """The layers with certain ids that the code of a layer names and Keras does not track.

    An example is a function around a layer that a `Lambda` calls.
    """
    tracked = {id(part) for part in keras_internals.all_layers(layer)}
    values = [type(layer), *(v for v in vars(layer).values() if id(v) not in tracked)]
    # Objects of users may raise anything in the search.
    with contextlib.suppress(Exception):
        visited = list(_visited(values))
        return [v for v in visited if id(v) in ids and id(v) not in tracked]
    return []


class CodeSearch:
    """Searches code of users for attributes, or for ways to reach any.

    Args:
        attributes: the names of the attributes.
        variables: the ids of the variables in them.
    """

    def __init__(self, attributes: set[str], variables: set[int]) -> None:
        self._attributes = attributes | _ANY
        self._variables = variables
        self._classes: dict[type, bool] = {}

    def matches(self, layer: Any) -> bool:
        """Search the code that a layer runs, without its sublayers."""
        cls = type(layer)
        try:
            if cls not in self._classes:
                self._classes[cls] = self._search([cls])
            attributes = [
                v for v in vars(layer).values() if not isinstance(v, keras.layers.Layer)
            ]
            return self._classes[cls] or self._search(attributes)
        # Objects of users may raise anything in the search; then there is no note.
        except Exception:
            return False

    def _search(self, values: list[Any]) -> bool:
        return any(
            id(value) in self._variables
            or (
                isinstance(value, FunctionType)
                and not is_library(value.__module__)
                and not self._attributes.isdisjoint(_names(value.__code__))
            )
            for value in _visited(values)
        )


def _visited(values: list[Any]) -> Iterator[Any]:
    """Yield values, what they contain, and what their functions and classes use."""
    visited: dict[int, Any] = {}
    remaining = list(values)
    while remaining:
        value = _unwrapped(remaining.pop())
        if id(value) in visited:
            continue
        yield value
        if not isinstance(value, (FunctionType, type, list, tuple, set, dict)):
            value = type(value)
            if id(value) in visited:
                continue
        visited[id(value)] = value  # a reference, so that no other object gets the id
        if isinstance(value, type):
            remaining += _members(value)
        elif isinstance(value, FunctionType):
            if not is_library(value.__module__):
                remaining += _used(value)
        else:
            remaining += value.values() if isinstance(value, dict) else value


def _unwrapped(value: Any) -> Any:
    """Return the function of a method, a decorator or a partial."""
    for _ in range(_MAX_DECORATORS):
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
    """Yield what users define in a class and its bases."""
    for base in cls.__mro__:
        if not is_library(base.__module__):
            yield from vars(base).values()


def _used(function: FunctionType) -> Iterator[Any]:
    """Yield the values of the global names and of the cells that a function uses."""
    names = set(_names(function.__code__))
    for value in [function.__globals__[n] for n in names if n in function.__globals__]:
        if not isinstance(value, ModuleType):
            yield value
        elif not is_library(value.__name__):
            yield from (vars(value)[name] for name in names if name in vars(value))
    for cell in function.__closure__ or ():
        with contextlib.suppress(ValueError):  # an empty cell
            yield cell.cell_contents


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)
        elif isinstance(constant, str):
            yield constant  # `getattr` may have another name
