"""Packed models against LiteRT, one after another in one process, in one thread.

LiteRT runs the float model without quantizers, as float32 and as int8 with ranges of noise.
Run by ``tox run -e bench``; the variable QFRAME_ROUNDS says how often each runs.
"""

import os

import keras
import numpy as np
import pytest

import qframe as qf
from benchmarks.lite import lite
from benchmarks.timing import interleaved, show
from qframe.cli.quickstart import network

ROUNDS = int(os.environ.get("QFRAME_ROUNDS", "20"))
TURN = 0.05
CHANNELS = 256
SIGNS = {
    "input_quantizer": "ste_sign",
    "kernel_quantizer": "ste_sign",
    "kernel_constraint": "weight_clip",
}


def convolution():
    layer = qf.layers.QuantConv2D(
        CHANNELS, 3, padding="same", pad_values=1, use_bias=False, **SIGNS
    )
    return keras.Sequential([keras.Input((32, 32, CHANNELS)), layer])


MODELS = {
    "3x3, 256 channels, 32x32": (convolution, (1,)),
    "tutorial": (network.build, (1, 64)),
    "QuickNet": (lambda: qf.zoo.QuickNet(), (1, 64)),
}


@pytest.mark.parametrize("name", MODELS)
def test_time(name, tmp_path):
    make, batches = MODELS[name]
    model = make()
    path = tmp_path / "m.safetensors"
    qf.export(model, path, target="packed")
    runtime = qf.packed.load(path, engine="numba")
    plain = make()
    qf.strip(plain)
    rows = []
    for batch in batches:
        shape = (batch, *model.input_shape[1:])
        x = np.random.default_rng(0).normal(size=shape).astype("float32")
        actions = {
            "packed": lambda x=x: runtime.predict(x),
            "packed, 2 threads": lambda x=x: runtime.predict(x, threads=2),
            "LiteRT float32": lite(plain, batch, whole=False),
            "LiteRT int8": lite(plain, batch, whole=True),
            "Keras predict": lambda x=x: model.predict(x, batch_size=64, verbose=0),
        }
        taken = interleaved(actions, ROUNDS, warm=1, turn=TURN)
        for action, time in taken.items():
            per_image = f"{1e6 * time / batch:.0f}"
            rows.append((str(batch), action, per_image, f"{time / taken['packed']:.2f}"))
    columns = ("batch", "what", "us an image", "times packed")
    show(f"{name}: {path.stat().st_size} bytes", columns, rows)
    runtime.summary(profile=True)
