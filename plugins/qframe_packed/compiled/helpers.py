"""Helpers: threads that wait for work that another thread could do alone as well.

They are started when they are needed first, no more than there are other cores, and serve
all engines of a process.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable

Job = Callable[[], None]


def cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class _Helper(threading.Thread):
    def __init__(self) -> None:
        # Nothing is lost if Python ends meanwhile.
        super().__init__(name="qframe-helper", daemon=True)
        self._job: Job | None = None
        self._has_job = threading.Lock()
        self._has_job.acquire()

    def run(self) -> None:
        try:
            while True:
                self._has_job.acquire()
                if self._job is not None:
                    self._job()
                # It may keep much memory alive.
                self._job = None
                _IDLE.append(self)
        finally:
            _ALL.discard(self)

    def take(self, job: Job) -> None:
        self._job = job
        self._has_job.release()


_ALL: set[_Helper] = set()
_IDLE: list[_Helper] = []


def _forget() -> None:
    """A forked process has none of the threads of its parent."""
    _ALL.clear()
    _IDLE.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def offer(job: Job) -> None:
    """Let a helper do a job soon, if there is one, or if one can be started."""
    try:
        helper = _IDLE.pop()
    except IndexError:
        if len(_ALL) >= cores() - 1:
            return
        helper = _Helper()
        # The system may have no more threads, or Python end.
        with contextlib.suppress(RuntimeError, MemoryError):
            helper.start()
            _ALL.add(helper)
    helper.take(job)
