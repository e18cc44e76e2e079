"""The positions of boxes in graphs."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qframe.reports.layout import BOX, layered


@st.composite
def graphs(draw):
    count = draw(st.integers(1, 14))
    pairs = list(itertools.combinations(range(count), 2))
    edges = st.lists(st.sampled_from(pairs), unique=True, max_size=30)
    return count, draw(edges) if pairs else []


@given(graphs())
def test_boxes_stand_apart_and_edges_lead_down(graph):
    count, edges = graph
    layout = layered(count, edges)
    width, height = layout.size
    for x, y in layout.boxes:
        assert BOX[0] / 2 <= x <= width - BOX[0] / 2 + 1e-6
        assert BOX[1] / 2 <= y <= height - BOX[1] / 2 + 1e-6
    for (x, y), (other_x, other_y) in itertools.combinations(layout.boxes, 2):
        assert abs(x - other_x) >= BOX[0] or abs(y - other_y) >= BOX[1]
    for (start, end), points in zip(edges, layout.edges, strict=True):
        assert points[0] == layout.boxes[start]
        assert points[-1] == layout.boxes[end]
        assert all(a[1] < b[1] for a, b in itertools.pairwise(points))
        # Between its ends it passes through no box.
        for x, y in points[1:-1]:
            assert all(abs(x - a) > BOX[0] / 2 or y != b for a, b in layout.boxes)


def test_a_chain_stands_in_one_column():
    layout = layered(5, [(n, n + 1) for n in range(4)])
    assert len({x for x, _ in layout.boxes}) == 1


def test_a_branch_stands_beside():
    layout = layered(3, [(0, 1), (1, 2), (0, 2)])
    first, inner, last = (x for x, _ in layout.boxes)
    assert first == pytest.approx(last)
    around = layout.edges[2][1][0]
    assert around - inner == pytest.approx(BOX[0] / 2 + 22 + 7)


def test_nothing():
    assert layered(0, []).boxes == []
