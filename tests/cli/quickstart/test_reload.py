"""Comparing what two processes predict."""

import keras
import numpy as np
import pytest

from qframe.cli.quickstart.reload import difference, predict, predict_elsewhere
from qframe.errors import QFrameError


def test_difference():
    here = np.array([[0.5, 0.25], [np.nan, 1.0]], np.float32)
    assert difference(here, here.copy()) == ""
    there = here.copy()
    there[0, 1] += np.float32(1e-3)
    assert difference(here[:1], there[:1]) == "1 of 2 values differ, by 0.001 at most"
    assert difference(here, there).startswith("2 of 4 values differ, by nan")
    assert "of shape (1, 2)" in difference(here, here[:1])
    assert "float64 values" in difference(here, here.astype(float))


def test_another_process_predicts_the_same(tmp_path):
    model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(3)])
    model.save(tmp_path / "m.keras")
    inputs = np.random.default_rng(0).normal(size=(7, 5)).astype(np.float32)
    there = predict_elsewhere(tmp_path / "m.keras", inputs)
    assert difference(predict(model, inputs), there) == ""


@pytest.mark.long
def test_another_process_fails(tmp_path):
    (tmp_path / "m.keras").write_text("nonsense")
    with pytest.raises(QFrameError, match="a fresh process cannot load it") as caught:
        predict_elsewhere(tmp_path / "m.keras", np.zeros(1))
    assert "ValueError" in str(caught.value)
