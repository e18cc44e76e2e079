"""A binary convolution in Larq Compute Engine and here, one after the other in a process.

Run by ``tox run -e bench-lce``, where there is what Larq Compute Engine needs, and no
Keras 3; QFRAME_ROUNDS says how often each runs.
"""

import os

import larq
import larq_compute_engine
import numpy as np
import tensorflow as tf
from larq_compute_engine.tflite.python.interpreter import Interpreter

from benchmarks.timing import interleaved, show
from packed_graphs import chain, sign
from qframe.deployment.graph import operations as op
from qframe_packed.compiled.engine import Engine
from qframe_packed.packing import PackedTensor

ROUNDS = int(os.environ.get("QFRAME_ROUNDS", "20"))
TURN = 0.05
SHAPE = 1, 32, 32, 256


def test_convolution():
    layer = larq.layers.QuantConv2D(
        256,
        3,
        padding="same",
        pad_values=1.0,
        use_bias=False,
        input_quantizer="ste_sign",
        kernel_quantizer="ste_sign",
        kernel_constraint="weight_clip",
    )
    model = tf.keras.Sequential([tf.keras.Input(SHAPE[1:], batch_size=1), layer])
    theirs = Interpreter(larq_compute_engine.convert_keras_model(model), num_threads=1)
    kernel = np.where(layer.kernel.numpy() >= 0, 1, -1).transpose(3, 0, 1, 2)
    conv = op.Conv2D(kernel=PackedTensor.of(kernel), pads=(1, 1, 1, 1), pad=1.0)
    ours = Engine(chain(SHAPE[1:], sign(), conv))
    x = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    np.testing.assert_array_equal(ours.predict([x])[0], theirs.predict(x))
    actions = {
        "packed": lambda: ours.predict([x]),
        "Larq Compute Engine": lambda: theirs.predict(x),
    }
    taken = interleaved(actions, ROUNDS, warm=1, turn=TURN)
    rows = [
        (name, f"{1e6 * time:.0f}", f"{time / taken['packed']:.1f}")
        for name, time in taken.items()
    ]
    show("3x3, 256 channels, 32x32, one thread", ("what", "us", "times packed"), rows)
