"""Saved, and loaded where nothing of this process is known."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import qframe as qf
from qframe.quantizers.differentiation import to_numpy
from qframe.registry.discovery import LOCAL, registry
from qframe.testing import fresh_process
from qframe.testing.check import require
from qframe.testing.checks import of_constraints, of_quantizers
from qframe.testing.checks.placement import Trained, quantized_layers, trained
from qframe.testing.comparison import require_equal
from qframe.testing.subjects import Subject


@contextmanager
def _written(model: Trained) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        path.write_bytes(model.file)
        yield path


def _words(model: Any) -> list[dict[str, str]]:
    return [
        {slot: repr(quantizer) for slot, quantizer in layer.quantizers.items()}
        | {"constraint": repr(layer.kernel_constraint)}
        for layer in quantized_layers(model)
    ]


@of_constraints()
@of_quantizers()
def saved_model(subject: Subject) -> None:
    """A saved model comes back with the same component, state and outputs."""
    found = trained(subject)
    with _written(found) as path:
        again = qf.load_model(path)
    model, expected = found.model, found.outputs
    require(_words(again) == _words(model), f"{_words(model)} became {_words(again)}.")
    for was, now in zip(model.weights, again.weights, strict=True):
        message = f"the variable {was.path} came back with other values"
        require_equal(to_numpy(now), to_numpy(was), to_numpy(was), message)
    outputs = again.predict(found.inputs, verbose=0)
    message = "the outputs of the loaded model"
    require_equal(outputs, expected, expected, message, 1e-5, 1e-6)


def _shipped(subject: Subject) -> bool:
    """Whether another process can find the class."""
    component = registry.component_of(type(subject.sample))
    return component is not None and component.namespace != LOCAL


@of_constraints(when=_shipped)
@of_quantizers(when=_shipped)
def saved_for_others(subject: Subject) -> None:
    """A fresh process, which finds plugins by their entry points alone, loads the model."""
    found = trained(subject)
    with _written(found) as path:
        outputs = fresh_process.predict(path, found.inputs)
    require_equal(outputs, found.outputs, found.outputs, "the outputs there", 1e-5, 1e-6)
