"""What every test starts from."""

import pytest


@pytest.fixture(autouse=True)
def clean_session(request):
    """No test sees the layer names, policies or seeds of another."""
    yield
    import sys

    if "keras" in sys.modules:
        import keras

        keras.utils.clear_session()
        keras.config.set_dtype_policy("float32")
