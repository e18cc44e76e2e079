"""Some networks of `keras.applications` as packed files; all are in the benchmarks."""

import re

import keras
import pytest

import qframe as qf
from documents import ROOT
from families import FAMILIES, difference

# What a network is made of is that of a version of Keras, and not of a backend.
pytestmark = pytest.mark.tensorflow


@pytest.mark.parametrize("name", ["EfficientNet", "MobileNetV3"])
def test_a_family_is_exported_and_agrees(name, tmp_path):
    family = FAMILIES[name]
    model, images = family.build(), family.images()
    path = tmp_path / "m.safetensors"
    qf.export(model, path, target="packed")
    expected = keras.ops.convert_to_numpy(model(images, training=False))
    found = qf.packed.load(path, engine="numpy").predict(images)
    assert difference(found, expected) < 2e-5


def test_the_table_of_the_documents_has_every_family():
    text = (ROOT / "docs" / "packed.md").read_text("utf-8")
    rows = re.findall(r"^\| (\w+) \| `(\w+)` \|", text, re.MULTILINE)
    assert rows == [(name, family.model) for name, family in FAMILIES.items()]
