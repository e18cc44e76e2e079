"""The commands of docs/litert.md, from a float model to a file that is verified."""

import shlex

import keras
import numpy as np
import pytest
from click.testing import CliRunner

import documents
from qframe.cli import main

pytest.importorskip("ai_edge_litert", reason="in the environment `tests`")
BLOCK = next(
    block.text
    for block in documents.blocks(documents.ROOT / "docs" / "litert.md")
    if block.language == "console"
)


def test_the_documented_commands(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    keras.utils.set_random_seed(0)
    layers = keras.layers.Conv2D(4, 3, activation="relu"), keras.layers.Flatten()
    keras.Sequential([keras.Input((6, 6, 1)), *layers, keras.layers.Dense(3)]).save(
        "model.keras"
    )
    for name in ("train", "test"):
        np.savez(f"{name}.npz", x=np.random.default_rng(0).normal(size=(30, 6, 6, 1)))
    outputs = []
    for line in BLOCK.splitlines():
        program, *arguments = shlex.split(line)
        assert program == "qframe"
        result = CliRunner().invoke(main, arguments, prog_name=program)
        assert result.exit_code == 0, result.output
        outputs.append(result.output)
    assert outputs[-1].rstrip().endswith("The outputs are equal.")
