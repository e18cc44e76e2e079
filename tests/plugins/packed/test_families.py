"""Some networks of `keras.applications` as packed files; all are in the benchmarks."""

import keras
import pytest

import qframe as qf
from families import FAMILIES, difference

pytestmark = [pytest.mark.ends, pytest.mark.two_backends]


@pytest.mark.parametrize("name", ["EfficientNet", "MobileNetV3"])
def test_a_family_is_exported_and_agrees(name, tmp_path):
    family = FAMILIES[name]
    model, images = family.build(), family.images(2)
    path = tmp_path / "m.safetensors"
    qf.export(model, path, target="packed")
    expected = keras.ops.convert_to_numpy(model(images, training=False))
    found = qf.packed.load(path, engine="numpy").predict(images)
    assert difference(found, expected) < 2e-5
