"""Helpers: threads that wait for work that another thread could do alone as well.

They are started when they are needed first, no more than there are other cores, and serve
all engines of a process.
"""

from __future__ import annotations

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
    def __init__(self, pool: Helpers) -> None:
        # Nothing is lost if Python ends meanwhile.
        super().__init__(name="qframe-helper", daemon=True)
        self._pool = pool
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
                self._pool.idle.append(self)
        finally:
            self._pool.all.discard(self)

    def take(self, job: Job) -> None:
        self._job = job
        self._has_job.release()


class Helpers:
    """The helpers of a process."""

    def __init__(self) -> None:
        self.all: set[_Helper] = set()
        # Those without a job.
        self.idle: list[_Helper] = []

    def offer(self, job: Job) -> None:
        """Let a helper do a job soon, if there is one, or if one can be started."""
        try:
            helper = self.idle.pop()
        except IndexError:
            if len(self.all) >= cores() - 1:
                return
            helper = _Helper(self)
            try:
                helper.start()
            except (RuntimeError, MemoryError):
                # The system has no more threads, or Python ends.
                return
            self.all.add(helper)
        helper.take(job)

    def forget(self) -> None:
        """Forget all, as those of its parent are not in a forked process."""
        self.all.clear()
        self.idle.clear()


HELPERS = Helpers()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=HELPERS.forget)
