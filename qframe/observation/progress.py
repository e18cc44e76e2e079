"""The progress bar of a run over data."""

from __future__ import annotations

import sys
import time
from typing import Any

import keras

# Seconds of work without a bar.
_PATIENCE = 2.0


class Progress(keras.callbacks.Callback):
    """A bar on standard error after two seconds, if that is a terminal.

    It is a context manager too, so that an error removes the bar.
    """

    def __init__(self, purpose: str) -> None:
        super().__init__()
        self._purpose = purpose
        self._start = time.monotonic()
        self._bar: Any = None

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def on_predict_batch_end(self, batch: int, logs: Any = None) -> None:
        if self._bar is None:
            if time.monotonic() - self._start < _PATIENCE or not sys.stderr.isatty():
                return
            self._bar = _bar()
            self._bar.start()
            # The number of batches of a generator is not known.
            self._bar.add_task(self._purpose, total=(self.params or {}).get("steps"))
        self._bar.update(self._bar.task_ids[0], completed=batch + 1)


def _bar() -> Any:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
