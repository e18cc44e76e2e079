"""Attributes that read differently during the call of their layer.

``self.kernel`` is the quantized kernel in the call of the layer. Outside of a call,
optimizers, constraints, regularizers and checkpoints read the latent variable under the
same name, unless `qframe.context.quantized_scope` changes that.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Mapping
from typing import Any

from qframe import context


def substituted(
    layer: Any, values: Mapping[str, Any]
) -> contextlib.AbstractContextManager[None]:
    """Let the attributes of `layer` read as `values` until the end of the block."""
    added = {(id(layer), name): value for name, value in values.items()}
    return context.scoped(substituted={**context.current().substituted, **added})


def is_substituted(layer: Any, name: str) -> bool:
    """Return whether an attribute of `layer` reads differently now."""
    return (id(layer), name) in context.current().substituted


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
        key, substituted = (id(layer), self._name), context.current().substituted
        return substituted[key] if key in substituted else self.stored(layer)

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
        reads = layer is not None and context.current().quantized_reads
        if not reads or is_substituted(layer, self._name):
            return super().__get__(layer, owner)
        return layer.reading(self._name)
