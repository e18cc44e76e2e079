"""Attributes that read differently while their layer is being called.

A layer reads ``self.kernel`` in its own call; qframe answers with the quantized kernel.
Outside of a call, optimizers, constraints, regularizers and checkpoints read the latent
variable under the same name, unless `qframe.context.quantized_scope` asks for the quantized
one.
"""

from __future__ import annotations

import contextlib
import inspect
import threading
from collections.abc import Iterator, Mapping
from typing import Any

from qframe.context import should_quantize


class _Substitutes(threading.local):
    """What reads as what in this thread: (id of the layer, attribute) -> value."""

    def __init__(self) -> None:
        self.values: dict[tuple[int, str], Any] = {}


_active = _Substitutes()


@contextlib.contextmanager
def substituted(layer: Any, values: Mapping[str, Any]) -> Iterator[None]:
    """Let the attributes of `layer` read as `values` until the end of the block."""
    added = {(id(layer), name): value for name, value in values.items()}
    before = {key: _active.values[key] for key in added if key in _active.values}
    _active.values.update(added)
    try:
        yield
    finally:
        for key in added:
            del _active.values[key]
        _active.values.update(before)


def is_substituted(layer: Any, name: str) -> bool:
    """Whether an attribute of `layer` reads differently now."""
    return (id(layer), name) in _active.values


def latent(layer: Any, name: str) -> Any:
    """The latent variable of a weight, whatever it reads as now."""
    attribute = getattr(type(layer), name, None)
    if isinstance(attribute, Substitutable):
        return attribute.stored(layer)
    return getattr(layer, name)


class Substitutable:
    """A data descriptor over an attribute or property of `base` named `name`."""

    def __init__(self, base: type, name: str) -> None:
        self._name = name
        inherited = inspect.getattr_static(base, name, None)
        self._property = inherited if hasattr(inherited, "__set__") else None

    def stored(self, layer: Any) -> Any:
        """The value outside of a call: the latent variable of a weight."""
        if self._property is not None:
            return self._property.__get__(layer, type(layer))
        try:
            return layer.__dict__[self._name]
        except KeyError:
            raise AttributeError(
                f"{type(layer).__name__!r} object {layer.__dict__.get('name')!r} has no "
                f"attribute {self._name!r}; a weight appears when the layer is built."
            ) from None

    def __get__(self, layer: Any, owner: type | None = None) -> Any:
        if layer is None:
            return self
        key = (id(layer), self._name)
        if key in _active.values:
            return _active.values[key]
        return self.stored(layer)

    def __set__(self, layer: Any, value: Any) -> None:
        if self._property is not None:
            self._property.__set__(layer, value)
        else:
            layer.__dict__[self._name] = value

    def __delete__(self, layer: Any) -> None:
        if self._property is not None:
            self._property.__delete__(layer)
        else:
            del layer.__dict__[self._name]


class WeightAttribute(Substitutable):
    """The attribute of a weight; within a quantized scope it is a reading."""

    def __get__(self, layer: Any, owner: type | None = None) -> Any:
        if layer is None or not should_quantize() or is_substituted(layer, self._name):
            return super().__get__(layer, owner)
        return layer.reading(self._name)
