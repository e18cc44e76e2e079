"""Runs a plan: over parts of a batch that fit the cache, in several threads."""

from __future__ import annotations

import functools
import itertools
import os
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from qframe_packed.compiled.links import row
from qframe_packed.compiled.memory import Memory
from qframe_packed.compiled.placing import laid_out
from qframe_packed.compiled.planning import Plan
from qframe_packed.compiled.programs import LENGTH, prepare, run
from qframe_packed.compiled.steps import Chained, Fallback, Row, Step
from qframe_packed.graph import Graph
from qframe_packed.limits import cost_of

Array = NDArray[Any]

# What is between two steps should stay within the second level of the cache.
_NEAR = 2**19
_MOST_SAMPLES = 64
# Nothing interrupts a program, which runs for so many operations with numbers at most, or
# for a single sample.
_MOST_WORK = 2**34


Run = Callable[[int], None]


def _parts(steps: list[Step]) -> Iterator[Iterable[Step]]:
    """Steps that are one program, and those of NumPy, in order."""
    for _, part in itertools.groupby(
        enumerate(steps), lambda pair: pair[0] if isinstance(pair[1], Fallback) else -1
    ):
        yield (step for _, step in part)


def _run(table: Array, memory: Memory, rows: list[Row], samples: int) -> None:
    # The table has addresses of what is in the memory and in the rows, which stay with it.
    run(samples, table)


class Session:
    """The memory of one thread, and the steps that are bound to it."""

    def __init__(self, plan: Plan, samples: int) -> None:
        prepare()
        self._memory = Memory(*laid_out(plan.slots, samples), samples)
        self._inputs = [self._memory.array(slot, np.float32) for slot in plan.inputs]
        self._outputs = [self._memory.array(slot, np.float32) for slot in plan.outputs]
        self.samples = samples
        self.runs = [self.bound(list(steps)) for steps in _parts(plan.steps)]

    def bound(self, steps: list[Step]) -> Run:
        """Steps that follow one another, as one call."""
        first = steps[0]
        if isinstance(first, Fallback):
            return first.bind(self._memory)
        kept = [step for step in steps if not isinstance(step, Fallback)]
        rows = [step.row if isinstance(step, Chained) else step for step in kept]
        table = np.array(
            [row(r.code, r.parts, self._memory, LENGTH) for r in rows], np.int64
        )
        return functools.partial(_run, table, self._memory, rows)

    def run(self, inputs: list[Array], outputs: list[Array]) -> None:
        """Fill `outputs` with what the model returns for `inputs`."""
        for start in range(0, len(inputs[0]), self.samples):
            part = slice(start, start + self.samples)
            size = len(inputs[0][part])
            for room, array in zip(self._inputs, inputs, strict=True):
                given = array[part]
                room[: given.size].reshape(given.shape)[...] = given
            for step in self.runs:
                step(size)
            for room, array in zip(self._outputs, outputs, strict=True):
                found = array[part]
                found[...] = room[: found.size].reshape(found.shape)


@attrs.define(eq=False)
class Engine:
    """A compiled graph; threads may share it."""

    graph: Graph
    plan: Plan = attrs.field(init=False)
    samples: int = attrs.field(init=False)
    least_bytes: int = attrs.field(init=False)
    _free: list[Session] = attrs.field(init=False, factory=list)
    # By their number, the threads beside the one that calls; a process that was forked
    # has none of those of its parent.
    _pools: dict[tuple[int, int], ThreadPoolExecutor] = attrs.field(
        init=False, factory=dict
    )

    def __attrs_post_init__(self) -> None:
        self.plan = Plan(self.graph)
        _, self.least_bytes = laid_out(self.plan.slots, 1)
        quick = _MOST_WORK // max(1, cost_of(self.graph).work)
        near = _NEAR // self.least_bytes
        self.samples = max(1, min(_MOST_SAMPLES, near, quick))

    @property
    def memory_bytes(self) -> int:
        """What a thread needs for the tensors between steps."""
        return laid_out(self.plan.slots, self.samples)[1]

    @functools.cached_property
    def _shapes(self) -> list[tuple[int, ...]]:
        values = self.plan.values
        return [values[index].shape for index in self.graph.outputs]

    def predict(self, inputs: list[Array], threads: int = 1) -> list[Array]:
        """What the model returns, the batch split evenly over threads."""
        size = len(inputs[0])
        outputs = [np.empty((size, *shape), np.float32) for shape in self._shapes]
        threads = max(1, min(threads, size))
        cuts = [size * i // threads for i in range(threads + 1)]
        parts = [slice(a, b) for a, b in itertools.pairwise(cuts)]
        rest = [
            self._pool(threads - 1).submit(self._run, part, inputs, outputs)
            for part in parts[1:]
        ]
        self._run(parts[0], inputs, outputs)
        for future in rest:
            future.result()
        return outputs

    def _pool(self, size: int) -> ThreadPoolExecutor:
        # To begin threads takes as long as some images.
        key = os.getpid(), size
        if key not in self._pools:
            self._pools.setdefault(key, ThreadPoolExecutor(size))
        return self._pools[key]

    def __reduce__(self) -> tuple[Any, ...]:
        # Sessions hold addresses, which are those of this process.
        return Engine, (self.graph,)

    def _run(self, part: slice, inputs: list[Array], outputs: list[Array]) -> None:
        # Lists are safe to share: one thread gets a session, or none.
        try:
            session = self._free.pop()
        except IndexError:
            session = Session(self.plan, self.samples)
        try:
            session.run([a[part] for a in inputs], [a[part] for a in outputs])
        finally:
            self._free.append(session)

    @property
    def kernels(self) -> list[str]:
        """What does the work of each node; nothing where that is part of another's."""
        found: list[list[str]] = [[] for _ in self.graph.nodes]
        for step, owner in zip(self.plan.steps, self.plan.owners, strict=True):
            found[owner].append(step.kernel)
        return [", ".join(names) for names in found]

    def seconds(self, batch: int, repeats: int) -> list[float]:
        """The median time of each node, for a batch of noise and one thread."""
        session = Session(self.plan, batch)
        rng = np.random.default_rng(0)
        inputs = [rng.standard_normal((batch, *s), np.float32) for s in self.graph.inputs]
        session.run(inputs, [np.empty((batch, *s), np.float32) for s in self._shapes])
        runs = [session.bound([step]) for step in self.plan.steps]
        times = np.zeros((repeats, len(self.graph.nodes)))
        for times_of_one in times:
            for run_, owner in zip(runs, self.plan.owners, strict=True):
                start = time.perf_counter()
                run_(batch)
                times_of_one[owner] += time.perf_counter() - start
        return [float(t) for t in np.median(times, axis=0)]
