"""The engine: it runs a schedule, on parts of a batch that fit the cache, in threads."""

from __future__ import annotations

import functools
import itertools
import math
import os
import time
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from qframe_packed.compiled import ports
from qframe_packed.compiled.allocation import allocate
from qframe_packed.compiled.fallback import Fallback
from qframe_packed.compiled.forms import Step
from qframe_packed.compiled.functions import prepare
from qframe_packed.compiled.helpers import cores
from qframe_packed.compiled.memory import Memory
from qframe_packed.compiled.parameters import Parameters
from qframe_packed.compiled.ports import Port
from qframe_packed.compiled.program import PROGRAM, Program
from qframe_packed.compiled.scheduling import Schedule
from qframe_packed.compiled.splitting import WORTH
from qframe_packed.graph import PackedGraph
from qframe_packed.limits import cost_of

Array = NDArray[Any]

# An instance, as NumPy makes one of a type each time.
_FLOAT = np.dtype(np.float32)
# The tensors between two steps should fit the second level of the cache.
_NEAR = 2**19
# They have a place in memory even if they are never there.
_MOST_MEMORY = 2**21
_MOST_SAMPLES = 64
# Nothing interrupts a program. It does no more than this number of operations with numbers,
# unless it runs for a single sample.
_MOST_WORK = 2**34
# What threads that share a sample do, of what they do alone. More samples than this part of
# the threads have a thread each, so that none waits for another.
_EFFICIENCY = 0.75


class Session:
    """The memory of one thread, and the steps that are bound to it."""

    def __init__(self, schedule: Schedule, samples: int) -> None:
        prepare([PROGRAM, *schedule.functions])
        self._memory = Memory(*allocate(schedule.buffers, samples), samples)
        shapes = [value.shape for value in schedule.values]
        self._inputs, self._outputs = (
            [
                Port(self._memory, buffer, buffer in schedule.movable, shapes[index])
                for buffer, index in zip(buffers, indices, strict=True)
            ]
            for buffers, indices in (
                (schedule.inputs, range(len(schedule.inputs))),
                (schedule.outputs, schedule.graph.outputs),
            )
        )
        self.samples = samples
        self.runs = self.bind(schedule.steps)
        self._alone = [run.alone if isinstance(run, Program) else run for run in self.runs]
        # The samples for which kernels use the buffers of inputs and outputs; -1 if some
        # may use other arrays.
        self._kept = -1
        self._sources: list[Array] = []
        self._results: list[Array] = []

    def bind(self, steps: list[Step]) -> list[Callable[[int], None]]:
        """Return the functions that run steps: a `Program` for kernels in a row."""
        runs: list[Callable[[int], None]] = []
        for _, group in itertools.groupby(steps, lambda step: isinstance(step, Fallback)):
            part = [*group]
            runs += [step.bind(self._memory) for step in part if isinstance(step, Fallback)]
            kernels = [step for step in part if isinstance(step, Parameters)]
            if kernels:
                runs.append(Program(self._memory, kernels))
        return runs

    def run(self, inputs: list[Array], outputs: list[Array], threads: int = 1) -> None:
        """Fill `outputs` with what the model returns for `inputs`.

        Several threads are this one and helpers, which share each kernel.
        """
        self._kept = -1
        if threads > 1:
            for step in self.runs:
                if isinstance(step, Program):
                    step.prepare(threads)
        size, most = len(inputs[0]), self.samples
        if size <= most:
            # A single image takes so little time that slicing would be seen.
            self._run(size, inputs, outputs, threads)
            return
        for start in range(0, size, most):
            part = slice(start, start + most)
            arrays = [array[part] for array in inputs]
            self._run(len(arrays[0]), arrays, [array[part] for array in outputs], threads)

    def copies(self, inputs: list[Array], size: int) -> list[Array]:
        """Return copies of what kernels write for copies of at most `samples` samples."""
        # What Python does takes as long as some kernels: no `zip`, and few calls.
        if size != self._kept:
            self._sources, self._results = (
                [port.keep(size) for port in ports]
                for ports in (self._inputs, self._outputs)
            )
            self._kept = size
        for i, source in enumerate(self._sources):
            source[...] = inputs[i]
        for step in self._alone:
            step(size)
        return [result.copy() for result in self._results]

    def _run(
        self, size: int, inputs: list[Array], outputs: list[Array], threads: int
    ) -> None:
        # `zip` would be seen in the time of a small image.
        for i, port in enumerate(self._inputs):
            port.read(inputs[i])
        for i, port in enumerate(self._outputs):
            port.point(outputs[i])
        for step in self.runs:
            if threads > 1 and isinstance(step, Program):
                step.share(size, threads)
            else:
                step(size)
        for i, port in enumerate(self._outputs):
            port.write(outputs[i])


@attrs.define(eq=False)
class Engine:
    """A compiled graph; threads may share it."""

    graph: PackedGraph
    schedule: Schedule = attrs.field(init=False)
    samples: int = attrs.field(init=False)
    least_bytes: int = attrs.field(init=False)
    # The most bytes of an input or output of a sample.
    _bytes: int = attrs.field(init=False)
    _free: list[Session] = attrs.field(init=False, factory=list)
    # By the process, the threads beside the one that calls, and their number. A forked
    # process has none of the threads of its parent.
    _pools: dict[int, tuple[ThreadPoolExecutor, int]] = attrs.field(
        init=False, factory=dict
    )

    def __attrs_post_init__(self) -> None:
        self.schedule = Schedule(self.graph)
        _, self.least_bytes = allocate(self.schedule.buffers, 1)
        quick = _MOST_WORK // max(1, cost_of(self.graph).work)
        near = self._near()
        self.samples = max(1, min(_MOST_SAMPLES, near, quick))
        ends = [*self.schedule.inputs, *self.schedule.outputs]
        self._bytes = max(buffer.size for buffer in ends)

    def _near(self) -> int:
        """The samples whose tensors between two steps fit the cache."""
        # What a single step reads or writes in the arrays of the caller passes through.
        uses = Counter(buffer for step in self.schedule.steps for buffer in step.buffers())
        passing = {buffer for buffer in self.schedule.movable if uses[buffer] == 1}
        others = [buffer for buffer in self.schedule.buffers if buffer not in passing]
        one, two = (allocate(others, samples)[1] for samples in (1, 2))
        near = 1 + (_NEAR - one) // max(1, two - one)
        return min(near, _MOST_MEMORY // self.least_bytes)

    @property
    def memory_bytes(self) -> int:
        """Bytes of the tensors between steps, for each thread."""
        return allocate(self.schedule.buffers, self.samples)[1]

    @functools.cached_property
    def _cost(self) -> float:
        steps = self.schedule.steps
        return sum(step.cost for step in steps if isinstance(step, Parameters))

    @functools.cached_property
    def _shapes(self) -> list[tuple[int, ...]]:
        values = self.schedule.values
        return [values[index].shape for index in self.graph.outputs]

    def predict(self, inputs: list[Array], threads: int = 1) -> list[Array]:
        """Return what the model returns.

        The batch is split evenly over threads, and each sample if there are more threads.
        """
        size = len(inputs[0])
        if threads == 1 and size <= self.samples and size * self._bytes < ports.LEAST:
            # To copy small arrays takes less time than to let kernels use them.
            session = self._session()
            outputs = session.copies(inputs, size)
            self._free.append(session)
            return outputs
        outputs = self._room(size)
        if size < _EFFICIENCY * threads and size * self._cost > WORTH:
            # More threads than cores would wait for each other.
            sharing = min(threads, cores())
            if size < _EFFICIENCY * sharing:
                self._run(inputs, outputs, sharing)
                return outputs
        if threads > 1:
            threads = max(1, min(threads, size))
        if threads == 1:
            self._run(inputs, outputs)
            return outputs
        self._divide(inputs, outputs, threads)
        return outputs

    def _divide(self, inputs: list[Array], outputs: list[Array], threads: int) -> None:
        """Fill `outputs`: a part for each thread, and those of threads that are missing."""
        size = len(inputs[0])
        cuts = [size * i // threads for i in range(threads + 1)]
        parts = deque(
            ([array[a:b] for array in inputs], [array[a:b] for array in outputs])
            for a, b in itertools.pairwise(cuts)
        )

        def work() -> None:
            while True:
                try:
                    part = parts.popleft()
                except IndexError:
                    return
                self._run(*part)

        pool, futures = self._pool(threads - 1), []
        for _ in range(threads - 1):
            try:
                futures.append(pool.submit(work))
            except (RuntimeError, MemoryError):
                # The system has no more threads, or Python ends. The pool may still begin
                # this work later, when no part is left.
                break
        try:
            work()
        finally:
            parts.clear()
        for future in futures:
            if not future.cancel():
                future.result()

    def _room(self, size: int) -> list[Array]:
        return [np.empty((size, *shape), _FLOAT) for shape in self._shapes]

    def _pool(self, size: int) -> ThreadPoolExecutor:
        # Starting threads takes as long as some images. Those of a smaller pool end when
        # nothing uses it any more.
        key = os.getpid()
        pool, most = self._pools.get(key, (None, 0))
        if pool is None or most < size:
            pool = ThreadPoolExecutor(size)
            self._pools[key] = pool, size
        return pool

    def __reduce__(self) -> tuple[Any, ...]:
        # The addresses in a session are those of this process.
        return Engine, (self.graph,)

    def _run(self, inputs: list[Array], outputs: list[Array], threads: int = 1) -> None:
        session = self._session()
        session.run(inputs, outputs, threads)
        # One that is interrupted may have addresses of arrays that no longer exist.
        self._free.append(session)

    def _session(self) -> Session:
        # Threads may share a list: `pop` returns a session to one of them only.
        try:
            return self._free.pop()
        except IndexError:
            return Session(self.schedule, self.samples)

    @property
    def kernels(self) -> list[str]:
        """The kernels of each node; none where another node's kernel computes it."""
        labels: list[list[str]] = [[] for _ in self.graph.nodes]
        for step, owner in zip(self.schedule.steps, self.schedule.owners, strict=True):
            labels[owner].append(step.label)
        return [", ".join(names) for names in labels]

    def seconds(self, batch: int, repeats: int) -> list[float]:
        """The median time of each node, for a batch of noise and one thread."""
        session = Session(self.schedule, batch)
        rng = np.random.default_rng(0)
        # Numbers from 0 to 1 are indices of a row too. They are not float32, so that they
        # are copied to the memory that the steps below read.
        inputs = [rng.random((batch, *shape)) for shape in self.graph.inputs]
        session.run(inputs, self._room(batch))
        runs = [run for step in self.schedule.steps for run in session.bind([step])]
        times = np.zeros((repeats, len(self.graph.nodes)))
        for times_of_one in times:
            for run_step, owner in zip(runs, self.schedule.owners, strict=True):
                start = time.perf_counter()
                run_step(batch)
                times_of_one[owner] += time.perf_counter() - start
        return [float(t) for t in np.median(times, axis=0)]

    def shares(self, seconds: list[float]) -> list[float | None]:
        """The share of the processor's peak that each node reaches in its time.

        Args:
            seconds: the time of each node for one sample.
        """
        shares: list[float | None] = [None] * len(seconds)
        for step, owner in zip(self.schedule.steps, self.schedule.owners, strict=True):
            if step.peak:
                operation: Any = self.graph.nodes[owner].operation
                products = step.numbers * math.prod(operation.kernel.shape[1:])
                shares[owner] = products / (seconds[owner] * step.peak)
        return shares
