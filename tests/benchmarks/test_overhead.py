"""What quantization adds to a training step, against the same model in float.

Both models are in one process and take turns; the ratio is that of the medians. Run by
``tox run -e bench``.
"""

import statistics
import time

import keras
import numpy as np
import pytest
from rich.console import Console
from rich.table import Table

import qframe as qf

STEPS, ROUNDS, GOAL = 10, 15, 1.10
BINARY = {
    "input_quantizer": "ste_sign",
    "kernel_quantizer": "ste_sign",
    "kernel_constraint": "weight_clip",
}


def network(convolution, dense, first, rest, wide):
    """The tutorial's network, or four convolutions of 64 channels."""
    normalize = lambda: keras.layers.BatchNormalization(scale=False)  # noqa: E731
    pool = keras.layers.MaxPooling2D
    if wide:
        body = [convolution(64, 3, padding="same", use_bias=False, **first), normalize()]
        for _ in range(3):
            body += [convolution(64, 3, padding="same", use_bias=False, **rest)]
            body += [normalize()]
        body += [keras.layers.GlobalAveragePooling2D()]
        shape = (16, 16, 3)
    else:
        body = [
            *(convolution(32, 3, use_bias=False, **first), pool(), normalize()),
            *(convolution(64, 3, use_bias=False, **rest), pool(), normalize()),
            *(convolution(64, 3, use_bias=False, **rest), normalize()),
            *(keras.layers.Flatten(), dense(64, use_bias=False, **rest), normalize()),
        ]
        shape = (28, 28, 1)
    head = [dense(10, use_bias=False, **rest), normalize(), keras.layers.Softmax()]
    return keras.Sequential([keras.Input(shape), *body, *head])


def compiled(model, jit):
    model.compile("adam", "sparse_categorical_crossentropy", jit_compile=jit)
    return model


@pytest.mark.parametrize("jit", [False, True], ids=["graph", "xla"])
@pytest.mark.parametrize("wide", [False, True], ids=["tutorial", "4 x 64 channels"])
def test_step_overhead(wide, jit):
    if jit and keras.backend.backend() == "torch":
        pytest.skip(reason="torch.compile needs a C++ toolchain of its own")
    first = {k: v for k, v in BINARY.items() if k != "input_quantizer"}
    plain = keras.layers.Conv2D, keras.layers.Dense, {}, {}
    binary = qf.layers.QuantConv2D, qf.layers.QuantDense, first, BINARY
    models = {
        "float": compiled(network(*plain, wide=wide), jit),
        "W1A1": compiled(network(*binary, wide=wide), jit),
    }
    rng = np.random.default_rng(0)
    x = rng.normal(size=(64 * STEPS, *models["float"].input_shape[1:])).astype("float32")
    y = rng.integers(0, 10, len(x))
    seconds = {name: [] for name in models}
    for round_ in range(ROUNDS + 1):
        for name, model in models.items():
            start = time.perf_counter()
            model.fit(x, y, batch_size=64, verbose=0, shuffle=False)
            if round_:  # the first one compiles
                seconds[name].append((time.perf_counter() - start) / STEPS)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    ratio = medians["W1A1"] / medians["float"]
    table = Table(title=f"training step, batch 64, {'xla' if jit else 'graph'}")
    for column in ("network", "float (ms)", "W1A1 (ms)", "ratio", "goal"):
        table.add_column(column, justify="right")
    figures = [f"{1e3 * medians[name]:.1f}" for name in models]
    table.add_row(
        "4 x 64 channels" if wide else "tutorial",
        *figures,
        f"{ratio:.3f}",
        f"<= {GOAL:.2f}",
    )
    Console().print(table)
