"""What every test starts from."""

import os
import sys
from pathlib import Path

import pytest
from hypothesis import settings

# A failure must repeat, here and in CI: every run draws the same examples. To look for new
# ones, run pytest with --hypothesis-profile=explore.
settings.register_profile("fixed", deadline=None, derandomize=True)
settings.register_profile("explore", deadline=None, max_examples=1000)
settings.load_profile("fixed")


@pytest.fixture(autouse=True)
def clean_session():
    """No test sees the layer names or policies of another."""
    yield
    if "keras" in sys.modules:
        import keras

        # Without the garbage collection, which takes longer than most tests.
        keras.utils.clear_session(free_memory=False)
        keras.config.set_dtype_policy("float32")


@pytest.fixture(scope="session")
def mnist():
    """A local copy of MNIST; nothing here downloads it.

    It is the file that the variable QFRAME_MNIST names, else Keras's own download, else
    a `data/mnist.npz` in a folder beside this checkout.
    """
    keras_home = Path(os.environ.get("KERAS_HOME", Path.home() / ".keras"))
    candidates = [
        *([Path(os.environ["QFRAME_MNIST"])] if "QFRAME_MNIST" in os.environ else []),
        keras_home / "datasets" / "mnist.npz",
        *sorted(Path(__file__).parents[2].glob("*/data/mnist.npz")),
    ]
    for path in candidates:
        if path.is_file():
            return path
    pytest.skip(reason=f"no MNIST at {', '.join(map(str, candidates))}")
