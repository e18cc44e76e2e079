"""The places of tensors in memory: apart while both are needed, and close together."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples import settings
from qframe_packed.compiled.allocation import allocate, reuse
from qframe_packed.compiled.elementwise import Elementwise
from qframe_packed.compiled.epilogue import Epilogue, Store
from qframe_packed.compiled.memory import Buffer, length_of

pytestmark = pytest.mark.pure
LIVES = st.tuples(st.integers(0, 30), st.integers(0, 6), st.integers(0, 2000))


def buffers_of(lives):
    return [Buffer(size).use(first).use(first + life) for first, life, size in lives]


def meet(a, b):
    return a.first <= b.last and b.first <= a.last


def apart(buffers, offsets, samples=1):
    """Whether no two buffers that are needed in one step have a byte in common."""
    for i, a in enumerate(buffers):
        for b in buffers[:i]:
            if meet(a, b) and a.over is not b and b.over is not a:
                low, high = sorted((a, b), key=lambda buffer: offsets[buffer])
                if offsets[low] + length_of(low, samples) > offsets[high]:
                    return False
    return True


def most_at_once(buffers, samples=1):
    return max(
        sum(length_of(s, samples) for s in buffers if s.first <= step <= s.last)
        for step in range(40)
    )


@given(st.lists(LIVES, min_size=1, max_size=30), st.integers(1, 3))
@settings(max_examples=200)
def test_buffers_that_are_needed_together_are_apart(lives, samples):
    buffers = buffers_of(lives)
    offsets, size = allocate(buffers, samples)
    assert apart(buffers, offsets, samples)
    least = most_at_once(buffers, samples)
    assert least <= size < 2 * least
    assert size == max(offsets[s] + length_of(s, samples) for s in buffers)


def test_tensors_that_grow_and_that_shrink_take_no_more_than_two_at_once():
    for sizes in ([1, 2, 4, 8, 16, 32], [32, 16, 8, 4, 2, 1]):
        buffers = buffers_of((i, 1, 1024 * size) for i, size in enumerate(sizes))
        assert allocate(buffers, 1)[1] == most_at_once(buffers)


def test_a_long_row_of_sums_is_in_one_place():
    """Each is written over the one before it, more often than Python calls functions."""
    buffers = buffers_of((i, 1, 100) for i in range(5000))
    for before, after in itertools.pairwise(buffers):
        after.over = before
    for ordered in (buffers, buffers[::-1]):
        offsets, size = allocate(ordered, 1)
        assert {*offsets.values()} == {0}
        assert size == length_of(buffers[0], 1)


@pytest.mark.parametrize(
    ("first", "last", "size", "is_source", "over"),
    [
        (0, 3, 64, False, True),
        (0, 3, 64, True, False),  # the product still reads neighbouring pixels
        (0, 4, 64, False, False),  # it is read again
        (3, 3, 64, False, False),  # it is written in the same step
        (0, 3, 32, False, False),  # it is too small
    ],
)
def test_a_sum_is_written_over_what_is_added_for_the_last_time(
    first, last, size, is_source, over
):
    added, stored = Buffer(size).use(first).use(last), Buffer(64).use(3).use(5)
    source = added if is_source else Buffer(64).use(0).use(3)
    stages = [Elementwise.of("add", added, pixel_bytes=4), Store(stored)]
    reuse(Epilogue(3, {0: stages}), source)
    assert (stored.over is added) == over
    assert over or stored.over is None
