"""What passes through quantizers, for whoever listens."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

Listener = Callable[[Any, Any], Any]


class _Listening(threading.local):
    listener: Listener | None = None


_here = _Listening()


@contextlib.contextmanager
def listening(listener: Listener | None) -> Iterator[None]:
    """Ask `listener` instead of quantizers in this thread, ``listener(quantizer, inputs)``.

    None lets the quantizers speak for themselves again.
    """
    before, _here.listener = _here.listener, listener
    try:
        yield
    finally:
        _here.listener = before


def listener() -> Listener | None:
    """Who listens in this thread."""
    return _here.listener
