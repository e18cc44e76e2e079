"""Notices of work that takes long."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator

# Seconds without a notice.
PATIENCE = 2.0


@contextlib.contextmanager
def noticed(text: str) -> Iterator[None]:
    """Show a text after two seconds, on standard error if that is a terminal."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console

    status = Console(stderr=True).status(text)
    timer = threading.Timer(PATIENCE, status.start)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
        status.stop()
