"""One image on several threads against one thread, in one process, in turns.

The column "apart" is what the machine has to give: how many times as many images as one
thread the same threads make if each has its own. Run by ``tox run -e bench``; the variable
QFRAME_ROUNDS says how often each runs.
"""

import os
import threading

import keras
import numpy as np
import pytest
from keras import layers

import qframe as qf
from benchmarks.timing import interleaved, show

ROUNDS = int(os.environ.get("QFRAME_ROUNDS", "20"))
TURN = 0.03
THREADS = [n for n in (2, 4, 8) if n <= (os.cpu_count() or 1)]


def convolutions(count):
    """3x3 convolutions of 256 channels, of 8 bits by 8 bits."""
    parts = [layers.Conv2D(256, 3, padding="same") for _ in range(count)]
    return keras.Sequential([keras.Input((32, 32, 256)), *parts])


INT8 = "integer_inference(weight_bits=8, input_bits=8)"
# By name: the model, its recipe, and how many times as quick two threads should be.
MODELS = {
    "3x3, 256 channels, 32x32": (lambda: convolutions(1), INT8, 1.5),
    "four of these": (lambda: convolutions(4), INT8, 1.5),
    "MobileNetV2": (lambda: keras.applications.MobileNetV2(weights=None), INT8, 1.5),
    "QuickNet": (lambda: qf.zoo.QuickNet(), None, 1.5),
}


def _runtime(make, recipe, path):
    model = make()
    if recipe:
        noise = np.random.default_rng(0).normal(size=(8, *model.input_shape[1:]))
        qf.quantize(model, recipe)
        qf.calibrate(model, noise.astype("float32"), verbose=0)
    qf.export(model, path, target="packed")
    return qf.packed.load(path, engine="numba").warm_up()


def _apart(runtime, x, threads):
    """Predict once in each of some threads at the same time."""
    others = [
        threading.Thread(target=runtime.predict, args=(x,)) for _ in range(threads - 1)
    ]
    for other in others:
        other.start()
    runtime.predict(x)
    for other in others:
        other.join()


@pytest.mark.parametrize("name", MODELS)
def test_time(name, tmp_path):
    make, recipe, goal = MODELS[name]
    runtime = _runtime(make, recipe, tmp_path / "m.safetensors")
    shape = (1, *runtime.input_shapes[0])
    x = np.random.default_rng(0).normal(size=shape).astype("float32")
    expected = runtime.predict(x)
    actions = {("shared", 1): lambda: runtime.predict(x)}
    for n in THREADS:
        np.testing.assert_array_equal(runtime.predict(x, threads=n), expected)
        actions["shared", n] = lambda n=n: runtime.predict(x, threads=n)
        actions["apart", n] = lambda n=n: _apart(runtime, x, n)
    taken = interleaved(actions, ROUNDS, turn=TURN)
    one = taken["shared", 1]
    rows = [("1", f"{1e6 * one:.0f}", "1.00", "1.00", "")]
    for n in THREADS:
        shared, apart = one / taken["shared", n], n * one / taken["apart", n]
        time = f"{1e6 * taken['shared', n]:.0f}"
        rows.append(
            (str(n), time, f"{shared:.2f}", f"{apart:.2f}", f"{goal}" if n == 2 else "")
        )
    show(name, ("threads", "us an image", "times as quick", "apart", "goal"), rows)
