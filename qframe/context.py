"""Scopes that change how quantized layers read and run, for a while.

One immutable record in one context variable holds all of it. A scope holds in its thread,
and a new thread begins without one: `observation.run` enters that of its caller in each
step, since TensorFlow runs every replica in a thread.
"""

from __future__ import annotations

import contextlib
import contextvars
import threading
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

__all__ = ["quantized_scope", "should_quantize"]


class Scope(NamedTuple):
    """The changes of behaviour that hold now.

    Args:
        quantized_reads: weights read as quantized outside of calls too.
        frozen: quantizers keep their state in training.
        idle: by the id of a layer, the slots whose quantizers do not run.
        substituted: by the id of a layer and the name of an attribute, the value that it
            reads as.
        observer: whom each call of a layer or quantizer passes through; None for nobody.
    """

    quantized_reads: bool = False
    frozen: bool = False
    idle: Mapping[int, frozenset[str]] = {}
    substituted: Mapping[tuple[int, str], Any] = {}
    observer: Any = None


_entered: contextvars.ContextVar[Scope] = contextvars.ContextVar("qframe_scope")
# Where a thread has entered no scope.
_outermost = Scope()
_idle_everywhere: list[Mapping[int, frozenset[str]]] = []
_lock = threading.Lock()


def current() -> Scope:
    """The scope of this thread."""
    return _entered.get(_outermost)


@contextlib.contextmanager
def entered(scope: Scope) -> Iterator[None]:
    """Enter a scope, in this thread, until the end of the block."""
    token = _entered.set(scope)
    try:
        yield
    finally:
        _entered.reset(token)


def scoped(**changes: Any) -> contextlib.AbstractContextManager[None]:
    """Change fields of the current scope, in this thread, until the end of the block."""
    return entered(current()._replace(**changes))


@contextlib.contextmanager
def idle_everywhere(idle: Mapping[int, frozenset[str]]) -> Iterator[None]:
    """Let slots be idle in this thread, and in every thread that has entered no scope.

    Among these are the replicas that TensorFlow starts in the block.
    """
    with _lock:
        _idle_everywhere.append(idle)
        _change_outermost()
    try:
        # A thread without a scope has the outermost one.
        own = _entered.get(None) is not None
        with scoped(idle={**current().idle, **idle}) if own else contextlib.nullcontext():
            yield
    finally:
        with _lock:
            # By identity: two blocks may be about the same layers.
            _idle_everywhere[:] = [each for each in _idle_everywhere if each is not idle]
            _change_outermost()


def _change_outermost() -> None:
    global _outermost
    merged = {layer: slots for each in _idle_everywhere for layer, slots in each.items()}
    _outermost = Scope(idle=merged)


@contextlib.contextmanager
def quantized_scope(quantize: bool) -> Iterator[None]:
    """Read and save quantized weights, in every quantized layer.

    Under ``quantized_scope(True)``, ``layer.kernel``, ``get_weights``, ``save_weights``
    and ``save`` of a layer or model give the quantized values; what is written goes to the
    latent weights. Calls give what they always give, but training is an error (on JAX it
    is training as ever). The scope holds in this thread, and ends with its block, also by
    an exception.

    Args:
        quantize: whether to read quantized values; False within a True scope reads
            latent ones again.

    Example:
        >>> import qframe as qf
        >>> sign = qf.quantizers.SteSign(clip_value=None)
        >>> layer = qf.layers.QuantDense(2, kernel_quantizer=sign, use_bias=False)
        >>> layer.build((None, 3))
        >>> with qf.context.quantized_scope(True):
        ...     (kernel,) = layer.get_weights()
        >>> sorted({float(abs(value)) for value in kernel.ravel()})
        [1.0]
    """
    with scoped(quantized_reads=bool(quantize)):
        yield


def should_quantize() -> bool:
    """Whether weights are read as quantized here.

    Example:
        >>> import qframe as qf
        >>> qf.context.should_quantize()
        False
    """
    return current().quantized_reads
