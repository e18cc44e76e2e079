"""Small files of images."""

import numpy as np
import pytest


@pytest.fixture
def arrays():
    """The arrays of a good file, to write as they are or spoilt."""
    rng = np.random.default_rng(0)
    return {
        "x_train": rng.integers(0, 256, (64, 28, 28), dtype=np.uint8),
        "y_train": rng.integers(0, 10, 64, dtype=np.uint8),
        "x_test": rng.integers(0, 256, (20, 28, 28), dtype=np.uint8),
        "y_test": rng.integers(0, 10, 20, dtype=np.uint8),
    }


@pytest.fixture
def save(tmp_path):
    """Write arrays to a file and get its path."""

    def write(arrays):
        np.savez(tmp_path / "data.npz", **arrays)
        return str(tmp_path / "data.npz")

    return write
