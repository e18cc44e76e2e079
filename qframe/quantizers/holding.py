"""Whether quantizers keep their state in training too, here and now."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator


class _Holding(threading.local):
    held: bool = False


_here = _Holding()


@contextlib.contextmanager
def held() -> Iterator[None]:
    """Let the ranges and starts of quantizers in this thread stay as they are."""
    before, _here.held = _here.held, True
    try:
        yield
    finally:
        _here.held = before


def is_held() -> bool:
    """Whether they stay here."""
    return _here.held
