"""The place of each slot in memory, in time that hardly grows faster than their number."""

from __future__ import annotations

import heapq
from bisect import bisect_left, insort
from collections import defaultdict, deque
from typing import Any

import attrs

from qframe_packed.compiled.chains import MERGES, Code
from qframe_packed.compiled.memory import Slot, length_of
from qframe_packed.compiled.steps import Chained


def share(chain: Chained, number: int) -> None:
    """Write sums in the place of what was added, where nothing reads that again."""
    links = chain.links
    read = {link.parts[0]: at for at, link in enumerate(links) if link.code in MERGES}
    # By their size, those that are read for the last time in an earlier step of the chain.
    free: dict[int, deque[Slot]] = defaultdict(deque)
    for at, link in enumerate(links):
        slot: Any = link.parts[0] if link.parts else None
        if link.code in MERGES and read[slot] == at:
            # A product reads its own source around the pixels at hand.
            source = any(part is slot for part in chain.row.parts)
            if slot.first < number == slot.last and not source:
                free[slot.size].append(slot)
        if link.code == Code.STORE and slot.first == number and free[slot.size]:
            slot.over = free[slot.size].popleft()


def laid_out(slots: list[Slot], samples: int) -> tuple[dict[Slot, int], int]:
    """The offset of each slot for so many samples, and the bytes of all."""
    roots = _roots(slots)
    spans: dict[Slot, tuple[int, int]] = {}
    for slot in slots:
        first, last = spans.get(roots[slot], (slot.first, slot.last))
        spans[roots[slot]] = min(first, slot.first), max(last, slot.last)
    lengths = {root: length_of(root, samples) for root in spans}
    # Tensors that grow leave holes too small for the next ones, but not back in time.
    back = {root: (-last, -first) for root, (first, last) in spans.items()}
    found, size = min((_swept(s, lengths) for s in (spans, back)), key=lambda pair: pair[1])
    return {slot: found[roots[slot]] for slot in slots}, size


def _roots(slots: list[Slot]) -> dict[Slot, Slot]:
    """Of each slot, the first of those that are in one place."""
    found: dict[Slot, Slot] = {}
    for slot in slots:
        passed = []
        while slot not in found and slot.over is not None:
            passed.append(slot)
            slot = slot.over
        root = found.setdefault(slot, slot)
        found.update(dict.fromkeys(passed, root))
    return found


def _swept(
    spans: dict[Slot, tuple[int, int]], lengths: dict[Slot, int]
) -> tuple[dict[Slot, int], int]:
    """Offsets by one pass in time: each slot takes the smallest hole that holds it."""
    found: dict[Slot, int] = {}
    holes, running = _Holes(), list[tuple[int, int, int]]()
    for slot in sorted(spans, key=lambda s: (spans[s][0], -lengths[s])):
        first, last = spans[slot]
        while running and running[0][0] < first:
            _, offset, length = heapq.heappop(running)
            holes.give(offset, length)
        found[slot] = holes.take(lengths[slot])
        heapq.heappush(running, (last, found[slot], lengths[slot]))
    return found, holes.end


@attrs.define
class _Holes:
    """What is free between 0 and `end`, where all else begins."""

    end: int = 0
    _sizes: list[tuple[int, int]] = attrs.field(init=False, factory=list)
    _starts: dict[int, int] = attrs.field(init=False, factory=dict)
    _ends: dict[int, int] = attrs.field(init=False, factory=dict)

    def give(self, start: int, size: int) -> None:
        """Make bytes free."""
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
        """Where so many bytes are free, and are not from now on."""
        place = bisect_left(self._sizes, (size, -1))
        if place < len(self._sizes):
            start = self._sizes[place][1]
        else:
            start = self._ends.get(self.end, self.end)
        room = self._remove(start) if start in self._starts else 0
        self.end = max(self.end, start + size)
        if room > size:
            self.give(start + size, room - size)
        return start

    def _remove(self, start: int) -> int:
        size = self._starts.pop(start)
        del self._ends[start + size]
        del self._sizes[bisect_left(self._sizes, (size, start))]
        return size
