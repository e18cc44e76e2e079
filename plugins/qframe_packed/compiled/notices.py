"""What is said while something takes long."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator

# Seconds for which nobody needs to be told.
PATIENCE = 2.0


@contextlib.contextmanager
def noticed(text: str) -> Iterator[None]:
    """Show what takes long: on standard error, if that is a terminal, after two seconds."""
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
