"""Bits by layer at the size of uniform 3 bits, rounded to the nearest, without training.

The networks and pictures are files in the folder that the variable ``QFRAME_EMOJI`` names:
``emoji32.npz`` with xt, yt to calibrate and xe, ye to test, and ``emoji_float0.keras`` to
``emoji_float2.keras``. The bits are chosen from pictures to train with, without labels.
"""

import os
from pathlib import Path

import keras
import numpy as np
import pytest

import qframe as qf
from benchmarks.timing import show

NETWORKS, PICTURES = range(3), 256
ACTIVATIONS = {"input_quantizer": "integer(symmetric=False, gather='moving_average')"}


@pytest.fixture(scope="module")
def folder():
    name = os.environ.get("QFRAME_EMOJI", "")
    if not name:
        pytest.skip("QFRAME_EMOJI names no folder with the networks and pictures")
    return Path(name)


def accuracies(folder, network):
    """The accuracy in float, in 3 bits, and with the bits of each layer chosen."""
    with np.load(folder / "emoji32.npz") as arrays:
        x, tests = ((arrays[n].astype("float32") - 128) / 64 for n in ("xt", "xe"))
        labels = arrays["ye"]
    model = keras.models.load_model(folder / f"emoji_float{network}.keras")

    def accuracy():
        outputs = model.predict(tests, batch_size=256, verbose=0)
        return float(np.mean(outputs.argmax(-1) == labels))

    found = [accuracy()]
    x = x[np.random.default_rng(network).permutation(len(x))[:PICTURES]]
    qf.quantize(model, ACTIVATIONS)
    qf.calibrate(model, x, verbose=0)
    table = qf.sensitivity(model, x, bits=(2, 3, 4, 5, 6, 8), batch_size=PICTURES)
    qf.quantize(model, qf.allocate(model, table, bits=3, among=3))
    found.append(accuracy())
    size = qf.models.profile(model).memory / 8
    qf.quantize(model, qf.allocate(model, table, size=size))
    found.append(accuracy())
    assert qf.models.profile(model).memory / 8 <= size
    return found


def test_bits_by_layer(folder):
    every = np.array([accuracies(folder, network) for network in NETWORKS])
    rows = [
        [str(i), *(f"{a:.1%}" for a in row)] for i, row in zip(NETWORKS, every, strict=True)
    ]
    rows.append(["mean", *(f"{a:.1%}" for a in every.mean(0))])
    rows.append(["goal", "", "", ">= 61.5%"])
    columns = ["network", "float", "3 bits", "bits by layer"]
    show("weights of 3 bits a number, activations of 8", columns, rows)
