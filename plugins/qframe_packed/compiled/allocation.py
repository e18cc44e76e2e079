"""Allocation of buffers in memory, in time that is nearly proportional to their number."""

from __future__ import annotations

import heapq
from bisect import bisect_left, insort
from collections import defaultdict, deque

import attrs

from qframe_packed.compiled.elementwise import Elementwise
from qframe_packed.compiled.epilogue import Epilogue, Store
from qframe_packed.compiled.memory import Buffer, length_of


def reuse(epilogue: Epilogue, source: Buffer) -> None:
    """Let sums take over the memory of terms that nothing reads again.

    Args:
        epilogue: the stages with the sums.
        source: what its kernel reads around the pixels of a chunk.
    """
    stages, step = epilogue.stages, epilogue.step
    terms = [stage.term if isinstance(stage, Elementwise) else None for stage in stages]
    last = {term: place for place, term in enumerate(terms)}
    # By size, the buffers that an earlier stage was the last to read.
    free: dict[int, deque[Buffer]] = defaultdict(deque)
    for place, (stage, term) in enumerate(zip(stages, terms, strict=True)):
        if term is not None and last[term] == place:
            if term.first < step == term.last and term is not source:
                free[term.size].append(term)
        elif isinstance(stage, Store):
            out = stage.out
            if out.first == step and free[out.size]:
                out.over = free[out.size].popleft()


def allocate(buffers: list[Buffer], samples: int) -> tuple[dict[Buffer, int], int]:
    """The offset of each buffer for a number of samples, and the bytes of all."""
    roots = _roots(buffers)
    spans: dict[Buffer, tuple[int, int]] = {}
    for buffer in buffers:
        first, last = spans.get(roots[buffer], (buffer.first, buffer.last))
        spans[roots[buffer]] = min(first, buffer.first), max(last, buffer.last)
    lengths = {root: length_of(root, samples) for root in spans}
    # Tensors that grow leave holes too small for the next ones, but not back in time.
    reverse = {root: (-last, -first) for root, (first, last) in spans.items()}
    offsets, size = min(
        (_sweep(s, lengths) for s in (spans, reverse)), key=lambda pair: pair[1]
    )
    return {buffer: offsets[roots[buffer]] for buffer in buffers}, size


def _roots(buffers: list[Buffer]) -> dict[Buffer, Buffer]:
    """The first of the buffers that share the memory of each buffer."""
    roots: dict[Buffer, Buffer] = {}
    for buffer in buffers:
        passed = []
        while buffer not in roots and buffer.over is not None:
            passed.append(buffer)
            buffer = buffer.over
        root = roots.setdefault(buffer, buffer)
        roots.update(dict.fromkeys(passed, root))
    return roots


def _sweep(
    spans: dict[Buffer, tuple[int, int]], lengths: dict[Buffer, int]
) -> tuple[dict[Buffer, int], int]:
    """Offsets by one pass in time: each buffer takes the smallest hole that fits."""
    offsets: dict[Buffer, int] = {}
    holes, running = _Holes(), list[tuple[int, int, int]]()
    for buffer in sorted(spans, key=lambda b: (spans[b][0], -lengths[b])):
        first, last = spans[buffer]
        while running and running[0][0] < first:
            _, offset, length = heapq.heappop(running)
            holes.free(offset, length)
        offsets[buffer] = holes.take(lengths[buffer])
        heapq.heappush(running, (last, offsets[buffer], lengths[buffer]))
    return offsets, holes.end


@attrs.define
class _Holes:
    """Free memory between 0 and `end`, from where on all is free."""

    end: int = 0
    _sizes: list[tuple[int, int]] = attrs.field(init=False, factory=list)
    _starts: dict[int, int] = attrs.field(init=False, factory=dict)
    _ends: dict[int, int] = attrs.field(init=False, factory=dict)

    def free(self, start: int, size: int) -> None:
        """Free bytes."""
        before, after = self._ends.get(start), start + size
        if after in self._starts:
            size += self._remove(after)
        if before is not None:
            size += self._remove(before)
            start = before
        insort(self._sizes, (size, start))
        self._starts[start] = size
        self._ends[start + size] = start

    def take(self, size: int) -> int:
        """Take bytes, and return where they begin."""
        place = bisect_left(self._sizes, (size, -1))
        if place < len(self._sizes):
            start = self._sizes[place][1]
        else:
            start = self._ends.get(self.end, self.end)
        room = self._remove(start) if start in self._starts else 0
        self.end = max(self.end, start + size)
        if room > size:
            self.free(start + size, room - size)
        return start

    def _remove(self, start: int) -> int:
        size = self._starts.pop(start)
        del self._ends[start + size]
        del self._sizes[bisect_left(self._sizes, (size, start))]
        return size
