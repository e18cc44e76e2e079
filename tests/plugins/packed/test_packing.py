"""Integers as streams of bits, and the points at which functions step."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qframe.deployment.graph.thresholds import Domain, first_true
from qframe.deployment.graph.values import LARGEST, Span, Value
from qframe.errors import DataError
from qframe_packed.packing import PackedTensor

pytestmark = pytest.mark.pure


@pytest.mark.parametrize(
    ("integers", "stream", "span"),
    [
        # The first is the lowest bit: 1 0 1 1 0 0 0 0, then a byte with one bit in it.
        ([1, -1, 1, 1, -1, -1, -1, -1, 1], [0b00001101, 0b1], (-1, 1, 2, 1)),
        # Codes 0 1 2 1, two bits each, the first lowest: 01 10 01 00.
        ([-1, 0, 1, 0], [0b01100100], (-1, 1, 1, 2)),
        # Codes 0 7 2 of three bits: 0 1011 1000 from the highest to the lowest.
        ([-4, 3, -2], [0b10111000, 0b0], (-4, 3, 1, 3)),
        # One bit is enough for two numbers, and for a single one.
        ([6, 0, 6], [0b101], (0, 6, 6, 1)),
        ([1, 1], [0], (1, 1, 1, 1)),
    ],
)
def test_by_hand(integers, stream, span):
    packed = PackedTensor.of(np.array(integers))
    assert packed.data.tolist() == stream
    assert (packed.span.low, packed.span.high, packed.span.step, packed.span.bits) == span
    assert packed.integers().tolist() == integers


def test_input_channels_are_last():
    kernel = np.ones((1, 2, 2, 2), int)
    kernel[0, 0, 0, 1] = -1  # the second input channel of the first pixel
    assert PackedTensor.of(kernel).data.tolist() == [0b11111101]


@given(
    st.lists(st.integers(-5, 5), min_size=1, max_size=60),
    st.integers(1, 1000),
    st.integers(-1000, 1000),
)
def test_round_trip(integers, factor, offset):
    array = np.array(integers) * factor + offset
    packed = PackedTensor.of(array)
    np.testing.assert_array_equal(packed.integers(), array)
    assert packed.data.size == -(-len(array) * packed.span.bits // 8)


def test_a_code_that_stands_for_nothing():
    with pytest.raises(DataError, match="a weight is above 1"):
        PackedTensor(np.array([0b11000000], np.uint8), (4,), Span(-1, 1))
    # It is found in later parts too.
    data = np.zeros(2**17, np.uint8)
    data[-1] = 0b11000000
    with pytest.raises(DataError, match="a weight is above 1"):
        PackedTensor(data, (2**19,), Span(-1, 1))


@pytest.mark.parametrize("span", [(1, 0, 1), (0, 3, 2), (0, LARGEST + 1, 1), (0, 1, 0)])
def test_spans_that_are_none(span):
    with pytest.raises(DataError, match="no integers"):
        Span(*span)


@pytest.mark.parametrize("shape", [(0, 3), (2**14, 2**13)])
def test_shapes_that_are_none(shape):
    with pytest.raises(DataError, match="a tensor of shape"):
        Value(shape)


FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)


@given(FLOATS, st.booleans())
def test_the_first_float(edge, closed):
    """It is found to the bit, subnormal numbers and both ends included."""
    edge = np.float32(edge)
    keys = first_true(lambda x: x >= edge if closed else x > edge, Domain.of(None), (1,))
    (actual,) = Domain.of(None).thresholds(keys)
    largest = np.finfo(np.float32).max
    with np.errstate(over="ignore"):
        above = np.nextafter(edge, np.float32(np.inf))
    expected = edge if closed else above
    if closed and edge == -largest:
        expected = np.float32(-np.inf)  # all reach it
    assert actual == expected


@given(st.integers(-20, 20), st.integers(0, 15))
def test_the_first_integer(edge, width):
    domain = Domain.of(Span(-7, -7 + width))
    keys = first_true(lambda x: x >= edge, domain, (2,))
    assert keys.tolist() == [min(max(edge, -7), -7 + width + 1)] * 2
