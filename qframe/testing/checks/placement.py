"""Quantizers in layers: equal values, and weights that train."""

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


def without_warning(build: Callable[[], Any]) -> Any:
    """Build a layer without the warning that it lacks a constraint."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", StarvedWeightsWarning)
        return build()


def network(dtype: str = "float32", **quantizers: Any) -> Any:
    """A model of one layer, with quantizers in some of its slots."""
    rows, columns = STATE_SHAPE
    dense = without_warning(
        lambda: qf.layers.QuantDense(
            columns, use_bias=False, dtype=dtype, kernel_initializer="zeros", **quantizers
        )
    )
    model = keras.Sequential([keras.Input((rows,)), dense])
    initial = np.random.default_rng(2).uniform(-0.9, 0.9, STATE_SHAPE)
    dense.kernel.assign(initial)
    return model


def quantized_network(quantizer: Any) -> Any:
    """The model of `network`, quantized by `qframe.quantize`."""
    rows, columns = STATE_SHAPE
    dense = keras.layers.Dense(columns, use_bias=False)
    model = keras.Sequential([keras.Input((rows,)), dense])
    without_warning(lambda: qf.quantize(model, {"kernel_quantizer": quantizer}))
    return model


def value_without_layer(subject: QuantizerSubject, x: Array) -> Array:
    """The quantized kernel by a quantizer outside of a layer."""
    quantizer = subject.fresh()
    quantizer.build(x.shape)
    return value(subject.on_axis(quantizer), x)


@of_quantizers()
def in_layer(subject: QuantizerSubject) -> None:
    """A kernel has the same values alone, in a layer, and after qf.quantize."""
    x = subject.batch()
    expected = value_without_layer(subject, x)
    models = {
        "QuantDense": network(kernel_quantizer=subject.fresh()),
        "qf.quantize": quantized_network(subject.fresh()),
    }
    for name, model in models.items():
        model.layers[0].kernel.assign(x)
        kernel = to_numpy(model(np.eye(len(x), dtype="float32")))
        require_equal(kernel, expected, x, f"the kernel by {name}", 1e-5, 1e-6)


@of_quantizers()
def in_mixed_precision(subject: QuantizerSubject) -> None:
    """Under mixed_float16 a kernel is quantized in float32, and an input in float16."""
    x = subject.batch()
    expected = value_without_layer(subject, x)
    model = network("mixed_float16", kernel_quantizer=subject.fresh())
    model.layers[0].kernel.assign(x)
    kernel = model(np.eye(len(x), dtype="float32"))
    dtype = keras.backend.standardize_dtype(kernel.dtype)
    require(dtype == "float16", f"the layer computes in float16, but returned {dtype}.")
    require_equal(to_numpy(kernel), expected, x, "the kernel", 2e-3, 2e-3)
    quantizers = {f"{slot}_quantizer": subject.fresh() for slot in SLOTS}
    everywhere = network("mixed_float16", **quantizers)
    outputs = to_numpy(everywhere(x.T.copy()))
    require(np.isfinite(outputs).all(), "on an input and output it gave NaN or infinity.")


def fit(model: Any, steps: int = 3, spread: Any = 1.0) -> float:
    """Train on a learnable regression, and return the last loss.

    Args:
        model: a model of rows of `STATE_SHAPE`.
        steps: the number of steps, each of one batch.
        spread: the factors of the columns of the input.
    """
    rng = np.random.default_rng(3)
    rows, columns = STATE_SHAPE
    x = rng.normal(size=(32, rows)).astype("float32")
    y = np.tanh(x[:, :columns] - x[:, columns : 2 * columns])
    x = (x * spread).astype("float32")
    # Run eagerly if that is faster than compiling.
    eager = keras.backend.backend() == "tensorflow"
    optimizer = keras.optimizers.Adam(0.01)
    model.compile(optimizer, "mse", run_eagerly=eager)
    history = model.fit(x, y, batch_size=32, epochs=steps, verbose=0)
    return float(history.history["loss"][-1])


def quantized_layers(model: Any) -> list[Any]:
    """The layers of a model that have slots."""
    return [part for part in model.layers if isinstance(part, qf.layers.Quantized)]


@attrs.frozen(eq=False)
class TrainedModel:
    """A model with a component in every place, after some training steps.

    Args:
        model: parallel layers, each with the component in one place.
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


_TRAINED: WeakKeyDictionary[Subject, TrainedModel] = WeakKeyDictionary()


def trained(subject: Subject) -> TrainedModel:
    """The trained model of a component, cached for all checks, which must not change it."""
    if subject not in _TRAINED:
        names = SLOTS if isinstance(subject, QuantizerSubject) else ("kernel",)
        # In parallel, since a layer with quantizers in all slots may have no gradient: no
        # sum of thirteen signs is within the support of another sign.
        parts = [
            network(**{f"{name}_{subject.kind}": subject.fresh()}).layers[0]
            for name in names
        ]
        x = keras.Input((STATE_SHAPE[0],))
        outputs = [part(x) for part in parts]
        model = keras.Model(x, keras.layers.add(outputs) if len(outputs) > 1 else outputs)
        before = [to_numpy(part.kernel) for part in parts]
        _TRAINED[subject] = TrainedModel(
            model, dict(zip(names, before, strict=True)), fit(model)
        )
    return _TRAINED[subject]


@of_quantizers()
def trains(subject: QuantizerSubject) -> None:
    """A layer with it in a slot trains: finite loss, and the latent kernel moves."""
    model = trained(subject)
    require(np.isfinite(model.loss), f"the loss became {model.loss}.")
    for layer in model.layers:
        (slot,) = layer.quantizers
        after = to_numpy(layer.kernel)
        require(np.isfinite(after).all(), f"as {slot}_quantizer weights became NaN.")
        moved = (after != model.before[slot]).any()
        require(moved, f"as {slot}_quantizer no weight moved in 3 steps.")
