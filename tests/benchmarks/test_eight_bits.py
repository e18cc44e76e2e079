"""Models of 8 and 4 bits as packed files against LiteRT, in one process and one thread.

A whole `predict` reads and returns floats. Run by ``tox run -e bench``; the variable
QFRAME_ROUNDS says how often each runs.
"""

import os

import keras
import numpy as np
import pytest
from keras import layers

import qframe as qf
from benchmarks.lite import lite
from benchmarks.timing import interleaved, show

ROUNDS = int(os.environ.get("QFRAME_ROUNDS", "20"))
TURN = 0.03


def _one(shape, *parts):
    return lambda: keras.Sequential([keras.Input(shape), *(part() for part in parts)])


def _block(filters):
    return [
        layers.Conv2D(filters, 3, use_bias=False),
        layers.BatchNormalization(),
        layers.ReLU(),
    ]


def small():
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            *(*_block(16), layers.MaxPooling2D()),
            *(*_block(32), layers.MaxPooling2D()),
            *(*_block(32), layers.Flatten()),
            layers.Dense(64, activation="relu"),
            layers.Dense(10),
        ]
    )


# By name: the model, the batches, and what LiteRT int8 takes at least, as a multiple.
MODELS = {
    "3x3, 256 channels, 32x32": (
        _one((32, 32, 256), lambda: layers.Conv2D(256, 3, padding="same")),
        {1: 1.0},
    ),
    "3x3, 64 channels, 56x56": (
        _one((56, 56, 64), lambda: layers.Conv2D(64, 3, padding="same")),
        {1: 1.0},
    ),
    "1x1, 128 channels, 28x28": (
        _one((28, 28, 128), lambda: layers.Conv2D(128, 1)),
        {1: 1.0},
    ),
    "depthwise 3x3, 128 channels, 56x56": (
        _one((56, 56, 128), lambda: layers.DepthwiseConv2D(3, padding="same")),
        {1: 2.2},
    ),
    "dense 1024": (_one((1024,), lambda: layers.Dense(1024)), {1: 1.1, 64: 1.0}),
    "small CNN": (small, {1: 1.3, 64: 1.5}),
    "MobileNetV2": (lambda: keras.applications.MobileNetV2(weights=None), {1: 1.0}),
}


def _packed(make, recipe, path):
    """The runtime of a quantized model, from ranges of noise."""
    model = make()
    noise = np.random.default_rng(0).normal(size=(8, *model.input_shape[1:]))
    qf.quantize(model, recipe)
    qf.calibrate(model, noise.astype("float32"), verbose=0)
    qf.export(model, path, target="packed")
    return qf.packed.load(path, engine="numba").warm_up()


@pytest.mark.parametrize("name", MODELS)
def test_time(name, tmp_path):
    make, batches = MODELS[name]
    paths = {bits: tmp_path / f"{bits}.safetensors" for bits in ("W8A8", "W4A8", "W4A4")}
    runtimes = {
        bits: _packed(
            make,
            f"integer_inference(weight_bits={bits[1]}, input_bits={bits[3]})",
            path,
        )
        for bits, path in paths.items()
    }
    plain = make()
    rows = []
    for batch, goal in batches.items():
        shape = (batch, *plain.input_shape[1:])
        x = np.random.default_rng(0).normal(size=shape).astype("float32")
        actions = {
            bits: lambda runtime=runtime, x=x: runtime.predict(x)
            for bits, runtime in runtimes.items()
        }
        actions["LiteRT float32"] = lite(plain, batch, whole=False)
        actions["LiteRT int8"] = lite(plain, batch, whole=True)
        # What a `predict` does: these rows are alike from end to end.
        actions["LiteRT int8 of floats"] = lite(plain, batch, whole=True, ends=False)
        taken = interleaved(actions, ROUNDS, warm=1, turn=TURN)
        for action, time in taken.items():
            multiple = time / taken["W8A8"]
            aim = f"{goal:.1f}" if action == "LiteRT int8" else ""
            rows.append(
                (str(batch), action, f"{1e6 * time / batch:.1f}", f"{multiple:.2f}", aim)
            )
    sizes = ", ".join(f"{bits} {path.stat().st_size}" for bits, path in paths.items())
    columns = ("batch", "runtime", "us an image", "times W8A8", "goal")
    show(f"{name}: bytes {sizes}, float {4 * plain.count_params()}", columns, rows)
    runtimes["W8A8"].summary(profile=True)
