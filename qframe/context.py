"""Scopes that temporarily change how quantized layers read and run.

A scope is an immutable record in a context variable. It applies to one thread, and a new
thread starts without a scope. TensorFlow runs every replica in a thread, so
`observation.run` enters the scope of its caller in each step.
"""

from __future__ import annotations

import contextlib
import contextvars
import threading
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

__all__ = ["quantized_scope", "should_quantize"]


class Scope(NamedTuple):
    """The current changes of behaviour.

    Args:
        quantized_reads: weights read as quantized outside of calls too.
        frozen: quantizers keep their state in training.
        idle: the slots whose quantizers do not run, by the id of the layer.
        substituted: the values of attributes, by the id of the layer and the name of the
            attribute.
        observer: the observer of each call of a layer or quantizer, or None.
    """

    quantized_reads: bool = False
    frozen: bool = False
    idle: Mapping[int, frozenset[str]] = {}
    substituted: Mapping[tuple[int, str], Any] = {}
    observer: Any = None


_entered: contextvars.ContextVar[Scope] = contextvars.ContextVar("qframe_scope")
# The scope of a thread that has not entered one.
_outermost = Scope()
_idle_everywhere: list[Mapping[int, frozenset[str]]] = []
_lock = threading.Lock()


def current() -> Scope:
    """The scope of this thread."""
    return _entered.get(_outermost)


@contextlib.contextmanager
def entered(scope: Scope) -> Iterator[None]:
    """Enter a scope in this thread, until the end of the block."""
    token = _entered.set(scope)
    try:
        yield
    finally:
        _entered.reset(token)


def scoped(**changes: Any) -> contextlib.AbstractContextManager[None]:
    """Change fields of the current scope of this thread, until the end of the block."""
    return entered(current()._replace(**changes))


@contextlib.contextmanager
def idle_everywhere(idle: Mapping[int, frozenset[str]]) -> Iterator[None]:
    """Let slots be idle in this thread, and in every thread without a scope.

    These include the threads of the replicas that TensorFlow starts in the block.
    """
    with _lock:
        _idle_everywhere.append(idle)
        _change_outermost()
    try:
        # A thread without a scope uses the outermost one.
        with contextlib.ExitStack() as stack:
            if _entered.get(None) is not None:
                stack.enter_context(scoped(idle={**current().idle, **idle}))
            yield
    finally:
        with _lock:
            # By identity, since two blocks may have equal slots.
            _idle_everywhere[:] = [slots for slots in _idle_everywhere if slots is not idle]
            _change_outermost()


def _change_outermost() -> None:
    global _outermost
    merged = {layer: slots for idle in _idle_everywhere for layer, slots in idle.items()}
    _outermost = Scope(idle=merged)


@contextlib.contextmanager
def quantized_scope(quantize: bool) -> Iterator[None]:
    """Read and save quantized weights, in every quantized layer.

    Under ``quantized_scope(True)``, ``layer.kernel``, ``get_weights``, ``save_weights``
    and ``save`` of a layer or model return the quantized values; assignments change the
    latent weights. Calls are unchanged, but training is an error (on JAX it is unchanged).
    The scope applies to this thread, and ends with its block, also by an exception.

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
    """Whether weights are read as quantized in the current scope.

    Example:
        >>> import qframe as qf
        >>> qf.context.should_quantize()
        False
    """
    return current().quantized_reads
