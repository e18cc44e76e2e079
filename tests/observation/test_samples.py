"""Which numbers of an example are looked at."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras import ops

from examples import settings
from qframe.observation import samples

SAMPLES = 256


def sampled(x, shape=(), axis=-1):
    """The samples of each example and range."""
    *_, result = samples.summary(ops.convert_to_tensor(x), shape, SAMPLES, axis)
    return ops.convert_to_numpy(result)


@pytest.mark.once_per_backend
@settings(max_examples=30)
@given(st.data())
def test_samples_of_any_shape_see_a_loud_channel_anywhere(data):
    sizes = data.draw(st.lists(st.integers(1, 40), max_size=2))
    channels = data.draw(st.integers(1, 700))
    loud = data.draw(st.integers(0, channels - 1))
    first = data.draw(st.booleans())
    x = np.zeros((1, *sizes, channels), "float32")
    x[..., loud] = 1
    if first:
        x = np.moveaxis(x, -1, 1)
    actual = sampled(x, axis=1 if first else -1)
    # As often as it is there, up to the two ends of its part.
    seen, shown = np.nansum(actual), np.isfinite(actual).sum()
    assert seen >= 1
    assert abs(seen - shown / channels) <= 2


@pytest.mark.once_per_backend
@pytest.mark.parametrize("shape", [(16, 16, 24), (64, 32, 8), (7, 9, 320), (2, 3, 5, 256)])
def test_samples_go_evenly_along_every_axis(shape):
    # Each number is its place.
    x = np.arange(np.prod(shape), dtype="float32").reshape(1, *shape)
    actual = sampled(x).ravel()
    count = max(SAMPLES, 2 * shape[-1])
    assert actual.shape == (count,)
    places = np.unravel_index(actual.astype(int), shape)
    for size, place in zip(shape, places, strict=True):
        assert np.abs(np.bincount(place, minlength=size) - count / size).max() <= 2
    # No axis follows another one, as with a stride: each quarter of two is a quarter.
    halves = [place >= size // 2 for size, place in zip(shape, places, strict=True)]
    both = np.mean(halves[-1] & halves[0]) / np.mean(halves[0]) / np.mean(halves[-1])
    assert 0.75 < both < 1.25


@pytest.mark.once_per_backend
def test_samples_by_channel_are_of_that_channel_and_all_where_they_are_few():
    x = np.arange(600, dtype="float32").reshape(1, 50, 4, 3)
    actual = sampled(x, (1, 1, 1, 3))
    assert actual.shape == (1, SAMPLES, 3)
    for channel in range(3):
        kept = actual[0, :, channel]
        assert set(kept[np.isfinite(kept)].astype(int)) == set(range(channel, 600, 3))
