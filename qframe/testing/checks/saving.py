"""Saved, and loaded where nothing of this process is known."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import qframe as qf
from qframe.differentiation import to_numpy
from qframe.registry import LOCAL, registry
from qframe.testing import fresh_process
from qframe.testing.check import require
from qframe.testing.checks import of_constraints, of_quantizers
from qframe.testing.checks.placement import SLOTS, fit, network
from qframe.testing.comparison import require_equal
from qframe.testing.subjects import QuantizerSubject, Subject


def model_of(subject: Subject) -> Any:
    """A trained model with the component in it wherever it fits."""
    if isinstance(subject, QuantizerSubject):
        model = network(**{f"{slot}_quantizer": subject.fresh() for slot in SLOTS})
    else:
        model = network(kernel_constraint=subject.fresh())
    fit(model, steps=2)
    return model


def _inputs(model: Any) -> Any:
    shape = (5, *model.input_shape[1:])
    return np.random.default_rng(4).normal(size=shape).astype("float32")


def _words(model: Any) -> dict[str, str]:
    layer = model.layers[0]
    words = {slot: repr(quantizer) for slot, quantizer in layer.quantizers.items()}
    return {**words, "constraint": repr(layer.kernel_constraint)}


@of_constraints()
@of_quantizers()
def saved_model(subject: Subject) -> None:
    """A saved model comes back with the same component, state and outputs."""
    model = model_of(subject)
    x = _inputs(model)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        model.save(path)
        again = qf.load_model(path)
    require(_words(again) == _words(model), f"{_words(model)} became {_words(again)}.")
    for was, now in zip(model.weights, again.weights, strict=True):
        message = f"the variable {was.path} came back with other values"
        require_equal(to_numpy(now), to_numpy(was), to_numpy(was), message)
    expected = model.predict(x, verbose=0)
    found = again.predict(x, verbose=0)
    require_equal(found, expected, expected, "the outputs of the loaded model", 1e-5, 1e-6)


def _shipped(subject: Subject) -> bool:
    """Whether another process can find the class."""
    component = registry.component_of(type(subject.sample))
    return component is not None and component.namespace != LOCAL


@of_constraints(when=_shipped)
@of_quantizers(when=_shipped)
def saved_for_others(subject: Subject) -> None:
    """A fresh process, which finds plugins by their entry points alone, loads the model."""
    model = model_of(subject)
    x = _inputs(model)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        model.save(path)
        found = fresh_process.predict(path, x)
    expected = model.predict(x, verbose=0)
    require_equal(found, expected, expected, "the outputs there", 1e-5, 1e-6)
