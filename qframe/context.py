"""Scopes that temporarily change how quantized layers read and run.

A scope is an immutable record in a context variable. It applies to one thread, and a new
thread starts without a scope. TensorFlow runs every replica in a thread, so
`observation.run` enters the scope of its caller in each step. Idle slots alone apply to
every thread: whoever calls a model in float gets floats.
"""

from __future__ import annotations

import contextlib
import contextvars
import threading
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

__all__ = ["quantized_scope", "should_quantize"]


class Scope(NamedTuple):
    """The current changes of behaviour in a thread.

    Args:
        quantized_reads: weights read as quantized outside of calls too.
        frozen: quantizers keep their state in training.
        substituted: the values of attributes, by the id of the layer and the name of the
            attribute.
        observer: the observer of each call of a layer or quantizer, or None.
    """

    quantized_reads: bool = False
    frozen: bool = False
    substituted: Mapping[tuple[int, str], Any] = {}
    observer: Any = None


class _State(NamedTuple):
    """The current scope, and the changes of each block that made it."""

    scope: Scope = Scope()
    blocks: tuple[Mapping[str, Any], ...] = ()


_OUTERMOST = _State()
_state: contextvars.ContextVar[_State] = contextvars.ContextVar("qframe_scope")
# The blocks that let slots be idle, by the id of the layer; the last one decides.
_idle: tuple[Mapping[int, frozenset[str]], ...] = ()
_lock = threading.Lock()


def current() -> Scope:
    """The scope of this thread."""
    return _state.get(_OUTERMOST).scope


@contextlib.contextmanager
def scoped(**changes: Any) -> Iterator[None]:
    """Change fields of the current scope of this thread, until the end of the block.

    Blocks may end in any order, as those in generators do: the others remain.
    """
    before = _state.get(_OUTERMOST)
    state = _State(before.scope._replace(**changes), (*before.blocks, changes))
    _state.set(state)
    try:
        yield
    finally:
        now = _state.get(_OUTERMOST)
        _state.set(before if now is state else _without(changes, now))


def _without(changes: Mapping[str, Any], state: _State) -> _State:
    blocks = tuple(block for block in state.blocks if block is not changes)
    scope = Scope()
    for block in blocks:
        scope = scope._replace(**block)
    return _State(scope, blocks)


@contextlib.contextmanager
def idle(slots: Mapping[int, frozenset[str]]) -> Iterator[None]:
    """Let the quantizers of slots rest in every thread, until the end of the block.

    Args:
        slots: the names of the idle slots by the id of the layer.
    """
    global _idle
    with _lock:
        _idle = (*_idle, slots)
    try:
        yield
    finally:
        with _lock:
            # By identity, since two blocks may have equal slots.
            _idle = tuple(each for each in _idle if each is not slots)


def idle_slots(layer: Any) -> frozenset[str]:
    """The names of the slots of a layer whose quantizers rest now."""
    for slots in reversed(_idle):
        if id(layer) in slots:
            return slots[id(layer)]
    return frozenset()


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
    """Return whether weights are read as quantized in the current scope.

    Example:
        >>> import qframe as qf
        >>> qf.context.should_quantize()
        False
    """
    return current().quantized_reads
