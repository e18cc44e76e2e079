"""Interception of the calls of layers, for the observer of the current scope."""

from __future__ import annotations

import functools
import threading
import types
from typing import Any

from keras import Operation
from keras.layers import RNN, Layer, TimeDistributed

from qframe import context

_lock = threading.Lock()


def intercept_calls() -> None:
    """Pass every call of a layer through the observer of the current scope.

    Keras has no hook around a call. On every backend `Layer.__call__` calls
    `Operation.__call__`, which calls `call`: there a layer is built, and the arguments are
    those of `call`, with `training` and masks. JAX calls a model by `stateless_call`
    instead. Both are wrapped once, and are unchanged without an observer.
    """
    with _lock:  # wrapped twice, each call would be observed twice
        _wrap()


@functools.cache
def _wrap() -> None:
    operation_call, stateless_call = Operation.__call__, Layer.stateless_call

    @functools.wraps(operation_call)
    def __call__(self: Any, *args: Any, **kwargs: Any) -> Any:
        observer = context.current().observer
        if observer is None or not isinstance(self, Layer):
            return operation_call(self, *args, **kwargs)
        call = functools.partial(operation_call, _observing_inside(self))
        return observer.layer_called(self, call, *args, **kwargs)

    @functools.wraps(stateless_call)
    def stateless(self: Any, *args: Any, **kwargs: Any) -> Any:
        observed = self if context.current().observer is None else _observed(self)
        return stateless_call(observed, *args, **kwargs)

    Operation.__call__, Layer.stateless_call = __call__, stateless


def has_loop(layer: Any, *args: Any, **kwargs: Any) -> bool:
    """Whether a layer calls others in a loop of the backend, which confines tensors."""
    if isinstance(layer, TimeDistributed):
        inputs = args[0] if args else kwargs["inputs"]
        return inputs.shape[1] is None
    return isinstance(layer, RNN) and not layer.unroll


class _Proxy:
    """A layer with some attributes replaced."""

    def __init__(self, layer: Any, /, **attributes: Any) -> None:
        self.__dict__.update(attributes, _layer=layer)

    @property  # type: ignore[misc]
    def __class__(self) -> Any:  # `super()` in a subclass asks for it
        return type(self._layer)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._layer, name)


def _observed(layer: Any) -> Any:
    """A proxy of a layer whose method `call` passes through the observer too."""

    def call(*args: Any, **kwargs: Any) -> Any:
        observer = context.current().observer
        return observer.layer_called(layer, _observing_inside(layer).call, *args, **kwargs)

    return _Proxy(layer, call=call)


def _observing_inside(layer: Any) -> Any:
    """The layer, or a proxy of a `TimeDistributed`, which calls `call` of its layer."""
    if not isinstance(layer, TimeDistributed):
        return layer
    proxy = _Proxy(layer, layer=_observed(layer.layer))
    proxy.__dict__["call"] = types.MethodType(type(layer).call, proxy)
    return proxy
