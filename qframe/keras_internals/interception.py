"""Interception of the calls of layers, for the observer of the current scope."""

from __future__ import annotations

import collections
import contextlib
import functools
import threading
from collections.abc import Iterator
from typing import Any

from keras.layers import RNN, TimeDistributed

from qframe import context
from qframe.keras_internals.structure import all_layers

_lock = threading.Lock()
# The blocks that observe a layer, by its id.
_blocks: collections.Counter[int] = collections.Counter()


@contextlib.contextmanager
def calls_observed(*models: Any) -> Iterator[None]:
    """Pass the calls of models and their layers through the observer of the current scope.

    Keras has no hook around a call. Its own `__call__`, `stateless_call`, `TimeDistributed`
    and code of users all run the method `call` of a layer, so that each layer has another
    one until the end of the block. Without an observer it does as before.
    """
    parts = (part for model in models for part in (model, *all_layers(model)))
    layers = list({id(part): part for part in parts}.values())
    with _lock:
        for layer in layers:
            _blocks[id(layer)] += 1
            if _blocks[id(layer)] == 1:
                layer.__dict__["call"] = _observed(layer)
    try:
        yield
    finally:
        with _lock:
            for layer in layers:
                _blocks[id(layer)] -= 1
                if not _blocks[id(layer)]:
                    del _blocks[id(layer)]
                    _restore(layer)


def _observed(layer: Any) -> Any:
    before, call = layer.__dict__.get("call"), layer.call

    @functools.wraps(call)
    def observed(*args: Any, **kwargs: Any) -> Any:
        observer = context.current().observer
        if observer is None:
            return call(*args, **kwargs)
        return observer.layer_called(layer, call, *args, **kwargs)

    observed.__dict__["before"] = before
    return observed


def _restore(layer: Any) -> None:
    before = layer.__dict__.pop("call").before
    if before is not None:  # a method of this one layer
        layer.__dict__["call"] = before


def has_loop(layer: Any, *args: Any, **kwargs: Any) -> bool:
    """Return whether a layer calls others in a loop that confines tensors to it."""
    if isinstance(layer, TimeDistributed):
        inputs = args[0] if args else kwargs["inputs"]
        return inputs.shape[1] is None
    return isinstance(layer, RNN) and not layer.unroll
