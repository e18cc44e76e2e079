"""Files that older versions wrote are read, and compute what they computed then."""

from pathlib import Path

import numpy as np
import pytest

import qframe as qf
from saved import make

pytestmark = pytest.mark.ends

VERSIONS = sorted(p for p in Path(make.__file__).parent.iterdir() if p.name[0].isdigit())
each_version = pytest.mark.parametrize("folder", VERSIONS, ids=lambda p: p.name)


def assert_close(result, expected):
    # They differ between examples by far more than what is allowed.
    assert expected.std(axis=0).min() > 0.05
    np.testing.assert_allclose(result, expected, atol=1e-4)


@pytest.fixture
def values(folder):
    return np.load(folder / "values.npz")


@each_version
def test_models(folder, values):
    model = qf.load_model(folder / "model.keras")
    assert_close(model.predict(values["x"], verbose=0), values["mixed"])
    assert int(model.optimizer.iterations) == 3


@each_version
def test_weights(folder, values):
    """They go into the model as it is written today."""
    model = make.mixed()
    model.load_weights(folder / "model.weights.h5")
    assert_close(model.predict(values["x"], verbose=0), values["mixed"])


@each_version
def test_packed(folder, values):
    model = qf.packed.load(folder / "model.safetensors", engine="numpy")
    assert_close(model.predict(values["x"]), values["binary"])


@each_version
def test_recipes(folder):
    report = qf.plan(make.mixed(), qf.Recipe.load(folder / "recipe.toml"))
    assert [row.path for row in report.skipped] == ["stem", "norm"]
    assert len(report.quantized) == 5
