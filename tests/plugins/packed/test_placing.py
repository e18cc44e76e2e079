"""The places of tensors in memory: apart while both are needed, and close together."""

import itertools
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qframe_packed.compiled.chains import Code
from qframe_packed.compiled.memory import Slot, length_of
from qframe_packed.compiled.placing import laid_out, share

pytestmark = pytest.mark.pure
LIVES = st.tuples(st.integers(0, 30), st.integers(0, 6), st.integers(0, 2000))


def slots_of(lives):
    return [Slot(size).used(first).used(first + life) for first, life, size in lives]


def meet(a, b):
    return a.first <= b.last and b.first <= a.last


def apart(slots, offsets, samples=1):
    """Whether no two slots that are needed in one step have a byte in common."""
    for i, a in enumerate(slots):
        for b in slots[:i]:
            if meet(a, b) and a.over is not b and b.over is not a:
                low, high = sorted((a, b), key=lambda slot: offsets[slot])
                if offsets[low] + length_of(low, samples) > offsets[high]:
                    return False
    return True


def most_at_once(slots, samples=1):
    return max(
        sum(length_of(s, samples) for s in slots if s.first <= step <= s.last)
        for step in range(40)
    )


@given(st.lists(LIVES, min_size=1, max_size=30), st.integers(1, 3))
@settings(max_examples=200)
def test_slots_that_are_needed_together_are_apart(lives, samples):
    slots = slots_of(lives)
    offsets, size = laid_out(slots, samples)
    assert apart(slots, offsets, samples)
    least = most_at_once(slots, samples)
    assert least <= size < 2 * least
    assert size == max(offsets[s] + length_of(s, samples) for s in slots)


def test_tensors_that_grow_and_that_shrink_take_no_more_than_two_at_once():
    for sizes in ([1, 2, 4, 8, 16, 32], [32, 16, 8, 4, 2, 1]):
        slots = slots_of((i, 1, 1024 * size) for i, size in enumerate(sizes))
        assert laid_out(slots, 1)[1] == most_at_once(slots)


def test_a_long_row_of_sums_is_in_one_place():
    """Each is written over the one before it, more often than Python calls functions."""
    slots = slots_of((i, 1, 100) for i in range(5000))
    for before, after in itertools.pairwise(slots):
        after.over = before
    for ordered in (slots, slots[::-1]):
        offsets, size = laid_out(ordered, 1)
        assert {*offsets.values()} == {0}
        assert size == length_of(slots[0], 1)


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
    added, stored = Slot(size).used(first).used(last), Slot(64).used(3).used(5)
    source = added if is_source else Slot(64).used(0).used(3)
    links = [
        SimpleNamespace(code=Code.ADD, parts=(added,)),
        SimpleNamespace(code=Code.STORE, parts=(stored,)),
    ]
    share(SimpleNamespace(links=links, row=SimpleNamespace(parts=(source,))), 3)
    assert (stored.over is added) == over
    assert over or stored.over is None
