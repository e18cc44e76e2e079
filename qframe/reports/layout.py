"""The layout of a graph: boxes in ranks from top to bottom, with few crossings."""

from __future__ import annotations

import collections
import itertools
from collections.abc import Mapping, Sequence

import attrs

BOX = (224.0, 38.0)
_GAP = (22.0, 26.0)
# The width of the place of an edge in a rank that it crosses.
_LANE = 14.0
_SWEEPS = 6

Point = tuple[float, float]
# The place of a box, (index, 0), or of an edge in a rank, (-1 - index, rank).
_Place = tuple[int, int]


@attrs.frozen
class Layout:
    """Positions in a picture with the corner 0, 0.

    Args:
        boxes: the centre of each box.
        edges: the points of each edge, from centre to centre.
        size: the width and the height of the picture.
    """

    boxes: Sequence[Point]
    edges: Sequence[Sequence[Point]]
    size: Point


def layered(count: int, edges: Sequence[tuple[int, int]]) -> Layout:
    """Lay out a graph whose boxes are in topological order."""
    rank = [0] * count
    for start, end in sorted(edges, key=lambda edge: edge[1]):
        rank[end] = max(rank[end], rank[start] + 1)
    chains = [_chain(edge, pair, rank) for edge, pair in enumerate(edges)]
    rows = _rows(rank, chains)
    x = _columns(rows, chains)
    left = min((x[place] - _width(place) / 2 for row in rows for place in row), default=0)
    right = max((x[place] + _width(place) / 2 for row in rows for place in row), default=0)
    pitch = BOX[1] + _GAP[1]

    def point(place: _Place, level: int) -> Point:
        return x[place] - left + _GAP[0], level * pitch + BOX[1] / 2 + _GAP[1]

    levels = {place: level for level, row in enumerate(rows) for place in row}
    return Layout(
        [point((box, 0), rank[box]) for box in range(count)],
        [[point(place, levels[place]) for place in chain] for chain in chains],
        (right - left + 2 * _GAP[0], len(rows) * pitch + _GAP[1]),
    )


def _chain(edge: int, pair: tuple[int, int], rank: Sequence[int]) -> list[_Place]:
    start, end = pair
    between: list[_Place] = [(-1 - edge, r) for r in range(rank[start] + 1, rank[end])]
    return [(start, 0), *between, (end, 0)]


def _rows(rank: Sequence[int], chains: Sequence[Sequence[_Place]]) -> list[list[_Place]]:
    rows: list[list[_Place]] = [[] for _ in range(max(rank, default=-1) + 1)]
    for box, level in enumerate(rank):
        rows[level].append((box, 0))
    for chain in chains:
        for place in chain[1:-1]:
            rows[place[1]].append(place)
    return rows


def _columns(
    rows: list[list[_Place]], chains: Sequence[Sequence[_Place]]
) -> Mapping[_Place, float]:
    """Move each place close to its neighbours, above and below in turn."""
    above, below = collections.defaultdict(list), collections.defaultdict(list)
    for chain in chains:
        for start, end in itertools.pairwise(chain):
            above[end].append(start)
            below[start].append(end)
    x: dict[_Place, float] = {}
    for row in rows:
        x |= dict.fromkeys(row, 0.0)
    for sweep in range(_SWEEPS):
        down = sweep % 2 == 0
        joined = above if down else below
        for row in rows if down else reversed(rows):
            wanted = {
                place: sum(x[other] for other in joined[place]) / len(joined[place])
                if joined[place]
                else x[place]
                for place in row
            }
            row.sort(key=wanted.__getitem__)
            x |= _apart(row, wanted)
    return x


def _apart(row: Sequence[_Place], wanted: Mapping[_Place, float]) -> dict[_Place, float]:
    """Return positions close to the wanted ones that keep the order and do not overlap."""
    positions: dict[_Place, float] = {}
    edge = float("-inf")
    for place in row:
        half = _width(place) / 2
        positions[place] = max(wanted[place], edge + half)
        edge = positions[place] + half + _GAP[0]
    # Pushing apart moves places to the right, so all move back by the mean shift.
    shift = sum(positions[place] - wanted[place] for place in row) / max(len(row), 1)
    return {place: value - shift for place, value in positions.items()}


def _width(place: _Place) -> float:
    return BOX[0] if place[0] >= 0 else _LANE
