"""In a layer: the same numbers, gradients that arrive, and weights that move."""

from __future__ import annotations

import functools
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import attrs
import keras
import numpy as np

import qframe as qf
from qframe.errors import StarvedWeightsWarning
from qframe.quantizers.differentiation import Array, to_numpy
from qframe.testing.check import require
from qframe.testing.checks import of_quantizers
from qframe.testing.checks.values import value
from qframe.testing.comparison import require_equal
from qframe.testing.subjects import STATE_SHAPE, QuantizerSubject, Subject

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


def quantized_layers(model: Any) -> list[Any]:
    """The layers of a model that have slots."""
    return [part for part in model.layers if isinstance(part, qf.layers.Quantized)]


@attrs.frozen(eq=False)
class Trained:
    """A model with a component wherever it fits, after some steps of training.

    Args:
        model: for a quantizer, of layers side by side with one slot filled in each.
        before: the latent kernels before the first step, by slot.
        loss: the loss of the last step.
    """

    model: Any
    before: dict[str, Array]
    loss: float

    @property
    def layers(self) -> list[Any]:
        """The quantized layers."""
        return quantized_layers(self.model)

    @functools.cached_property
    def inputs(self) -> Array:
        """A batch for the model."""
        shape = (5, *self.model.input_shape[1:])
        return np.random.default_rng(4).normal(size=shape).astype("float32")

    @functools.cached_property
    def outputs(self) -> Array:
        """The predictions of the model for this batch."""
        return np.asarray(self.model.predict(self.inputs, verbose=0))

    @functools.cached_property
    def file(self) -> bytes:
        """The content of the model's `.keras` file."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.keras"
            self.model.save(path)
            return path.read_bytes()


_TRAINED: WeakKeyDictionary[Subject, Trained] = WeakKeyDictionary()


def trained(subject: Subject) -> Trained:
    """Return the trained model of a component: all checks share it, and none changes it."""
    if subject not in _TRAINED:
        names = SLOTS if isinstance(subject, QuantizerSubject) else ("kernel",)
        # Side by side, since a layer with quantizers in all slots may have no gradient: no
        # sum of thirteen signs is within the support of another sign.
        parts = [
            network(**{f"{name}_{subject.kind}": subject.fresh()}).layers[0]
            for name in names
        ]
        x = keras.Input((STATE_SHAPE[0],))
        outputs = [part(x) for part in parts]
        model = keras.Model(x, keras.layers.add(outputs) if len(outputs) > 1 else outputs)
        before = [to_numpy(part.kernel) for part in parts]
        _TRAINED[subject] = Trained(
            model, dict(zip(names, before, strict=True)), fit(model)
        )
    return _TRAINED[subject]


@of_quantizers()
def trains(subject: QuantizerSubject) -> None:
    """A layer with it in a slot trains: finite loss, and the latent kernel moves."""
    found = trained(subject)
    require(np.isfinite(found.loss), f"the loss became {found.loss}.")
    for layer in found.layers:
        (slot,) = layer.quantizers
        after = to_numpy(layer.kernel)
        require(np.isfinite(after).all(), f"as {slot}_quantizer weights became NaN.")
        moved = (after != found.before[slot]).any()
        require(moved, f"as {slot}_quantizer no weight moved in 3 steps.")
