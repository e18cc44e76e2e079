"""A model without rounding, its file, and examples."""

import pytest

from exact_networks import exported, integers, network


@pytest.fixture(scope="session")
def model():
    return network()


@pytest.fixture(scope="session")
def content(model, tmp_path_factory):
    return exported(model, tmp_path_factory.mktemp("file")).read_bytes()


@pytest.fixture
def path(content, tmp_path):
    """The file of the model, which a test may change."""
    path = tmp_path / "m.safetensors"
    path.write_bytes(content)
    return path


@pytest.fixture(scope="session")
def x():
    return integers()
