"""Training with one line for each epoch, and a progress bar in a terminal."""

from __future__ import annotations

import signal
import time
from typing import Any

import keras
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from qframe.cli.quickstart.data import Digits, as_input

BATCH_SIZE = 64


def train(model: Any, data: Digits, epochs: int, console: Console) -> None:
    """Fit the model to the training images and print the progress."""
    progress = Progress(
        TextColumn("  {task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[numbers]}", markup=False),
        console=console,
        transient=True,
        # In a pipe the line of each epoch is enough.
        disable=not console.is_terminal,
    )
    with progress, _Interrupt() as interrupt:
        model.fit(
            as_input(data.x_train),
            data.y_train,
            batch_size=BATCH_SIZE,
            epochs=epochs,
            verbose=0,
            callbacks=[_Report(progress, epochs), interrupt],
        )


class _Report(keras.callbacks.Callback):
    """Updates the bar of a `Progress` and prints a line after each epoch."""

    def __init__(self, progress: Progress, epochs: int) -> None:
        super().__init__()
        self._progress = progress
        self._epochs = epochs
        self._task = progress.add_task("", total=None, numbers="")
        self._began = 0.0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._began = time.perf_counter()
        self._progress.reset(
            self._task, description=self._place(epoch), total=self.params["steps"]
        )

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        # Reading the numbers waits for the device, so they are read only to be shown.
        if not self._progress.disable:
            self._progress.update(
                self._task, completed=batch + 1, numbers=_numbers(logs or {})
            )

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        seconds = time.perf_counter() - self._began
        self._progress.console.print(
            f"  {self._place(epoch)}  {_numbers(logs or {})}  {seconds:.1f} s"
        )

    def _place(self, epoch: int) -> str:
        digits = len(str(self._epochs))
        return f"epoch {epoch + 1:>{digits}}/{self._epochs}"


class _Interrupt(keras.callbacks.Callback):
    """Ends training after a batch when the user interrupts it, at once the second time.

    An exception in the middle of a step may crash TensorFlow.
    """

    def __init__(self) -> None:
        super().__init__()
        self._asked = False

    def __enter__(self) -> _Interrupt:
        self._before = signal.signal(signal.SIGINT, self._ask)
        return self

    def __exit__(self, *_: Any) -> None:
        signal.signal(signal.SIGINT, self._before)

    def _ask(self, *_: Any) -> None:
        if self._asked:
            raise KeyboardInterrupt
        self._asked = True

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if self._asked:
            raise KeyboardInterrupt


def _numbers(logs: dict[str, Any]) -> str:
    return f"loss {logs.get('loss', 0):.4f}  accuracy {logs.get('accuracy', 0):.4f}"
