"""In a layer: the same numbers, gradients that arrive, and weights that move."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

import qframe as qf
from qframe.differentiation import Array, to_numpy
from qframe.errors import StarvedWeightsWarning
from qframe.testing.check import require
from qframe.testing.checks import of_quantizers
from qframe.testing.checks.values import value
from qframe.testing.comparison import require_equal
from qframe.testing.subjects import STATE_SHAPE, QuantizerSubject

SLOTS = ("input", "kernel", "output")


def quietly(make: Callable[[], Any]) -> Any:
    """Make a layer without a constraint, which is no concern of these checks."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", StarvedWeightsWarning)
        return make()


def network(dtype: str = "float32", **quantizers: Any) -> Any:
    """A model of one layer, with quantizers in some of its slots."""
    rows, columns = STATE_SHAPE
    dense = quietly(
        lambda: qf.layers.QuantDense(
            columns, use_bias=False, dtype=dtype, kernel_initializer="zeros", **quantizers
        )
    )
    model = keras.Sequential([keras.Input((rows,)), dense])
    initial = np.random.default_rng(2).uniform(-0.9, 0.9, STATE_SHAPE)
    dense.kernel.assign(initial)
    return model


def rewritten(quantizer: Any) -> Any:
    """The model of `network`, quantized after it was made."""
    rows, columns = STATE_SHAPE
    dense = keras.layers.Dense(columns, use_bias=False)
    model = keras.Sequential([keras.Input((rows,)), dense])
    quietly(lambda: qf.quantize(model, {"kernel_quantizer": quantizer}))
    return model


def alone(subject: QuantizerSubject, x: Array) -> Array:
    """What it makes of a kernel where it is in no layer."""
    quantizer = subject.fresh()
    quantizer.build(x.shape)
    return value(subject.on_axis(quantizer), x)


@of_quantizers()
def in_layer(subject: QuantizerSubject) -> None:
    """On a kernel it gives the same numbers alone, in a layer, and after qf.quantize."""
    x = subject.batch()
    expected = alone(subject, x)
    models = {
        "QuantDense": network(kernel_quantizer=subject.fresh()),
        "qf.quantize": rewritten(subject.fresh()),
    }
    for way, model in models.items():
        model.layers[0].kernel.assign(x)
        found = to_numpy(model(np.eye(len(x), dtype="float32")))
        require_equal(found, expected, x, f"the kernel by {way}", 1e-5, 1e-6)


@of_quantizers()
def in_mixed_precision(subject: QuantizerSubject) -> None:
    """Under mixed_float16 a kernel is quantized in float32, and an input in float16."""
    x = subject.batch()
    expected = alone(subject, x)
    model = network("mixed_float16", kernel_quantizer=subject.fresh())
    model.layers[0].kernel.assign(x)
    found = model(np.eye(len(x), dtype="float32"))
    kind = keras.backend.standardize_dtype(found.dtype)
    require(kind == "float16", f"the layer computes in float16, and gave {kind}.")
    require_equal(to_numpy(found), expected, x, "the kernel", 2e-3, 2e-3)
    both = network("mixed_float16", **{f"{s}_quantizer": subject.fresh() for s in SLOTS})
    found = to_numpy(both(x.T.copy()))
    require(np.isfinite(found).all(), "on an input and output it gave NaN or infinity.")


def fit(model: Any, steps: int = 3, spread: Any = 1.0) -> float:
    """Train on a regression that the model can learn from; the last loss.

    Args:
        model: takes rows like those of `STATE_SHAPE`.
        steps: the number of steps, each of one batch.
        spread: what the columns of the input are multiplied by.
    """
    rng = np.random.default_rng(3)
    rows, columns = STATE_SHAPE
    x = rng.normal(size=(32, rows)).astype("float32")
    y = np.tanh(x[:, :columns] - x[:, columns : 2 * columns])
    x = (x * spread).astype("float32")
    # Eagerly where that is quicker than compiling.
    eager = keras.backend.backend() == "tensorflow"
    optimizer = keras.optimizers.Adam(0.01)
    model.compile(optimizer, "mse", run_eagerly=eager)
    history = model.fit(x, y, batch_size=32, epochs=steps, verbose=0)
    return float(history.history["loss"][-1])


@of_quantizers()
def trains(subject: QuantizerSubject) -> None:
    """A layer with it in a slot trains: finite loss, and the latent kernel moves."""
    for slot in SLOTS:
        model = network(**{f"{slot}_quantizer": subject.fresh()})
        kernel = model.layers[0].kernel
        before = to_numpy(kernel)
        loss = fit(model)
        after = to_numpy(kernel)
        require(np.isfinite(loss), f"as {slot}_quantizer the loss became {loss}.")
        require(np.isfinite(after).all(), f"as {slot}_quantizer weights became NaN.")
        require((after != before).any(), f"as {slot}_quantizer no weight moved in 3 steps.")
