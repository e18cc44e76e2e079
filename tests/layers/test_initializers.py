"""The initializers of reference networks."""

import keras
import numpy as np
import pytest

from qframe.errors import ArgumentError
from qframe.layers.initializers import BlurPool


@pytest.mark.parametrize(
    ("size", "row"), [(1, [1]), (2, [1, 1]), (3, [1, 2, 1]), (5, [1, 4, 6, 4, 1])]
)
def test_blur_pool_is_binomial(size, row):
    kernel = keras.ops.convert_to_numpy(BlurPool()((size, size, 3, 1)))
    expected = np.outer(row, row) / np.sum(row) ** 2
    for channel in range(3):
        np.testing.assert_allclose(kernel[:, :, channel, 0], expected, rtol=1e-6)


def test_blur_pool_is_saved():
    config = keras.saving.serialize_keras_object(BlurPool())
    assert isinstance(keras.saving.deserialize_keras_object(config), BlurPool)


@pytest.mark.parametrize("shape", [(3, 2, 1, 1), (3, 3)])
def test_blur_pool_is_for_square_kernels(shape):
    with pytest.raises(ArgumentError, match="kernels of the shape"):
        BlurPool()(shape)
