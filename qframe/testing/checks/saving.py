"""Saved models, loaded in this process and in a fresh one."""

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
from qframe.testing.checks.placement import TrainedModel, quantized_layers, trained
from qframe.testing.comparison import require_equal
from qframe.testing.subjects import Subject


@contextmanager
def _written(model: TrainedModel) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        path.write_bytes(model.file)
        yield path


def _settings(model: Any) -> list[dict[str, str]]:
    return [
        {slot: repr(quantizer) for slot, quantizer in layer.quantizers.items()}
        | {"constraint": repr(layer.kernel_constraint)}
        for layer in quantized_layers(model)
    ]


@of_constraints()
@of_quantizers()
def saved_model(subject: Subject) -> None:
    """A loaded model has the same component, state and outputs as the saved one."""
    saved = trained(subject)
    with _written(saved) as path:
        loaded = qf.load_model(path)
    before, after = _settings(saved.model), _settings(loaded)
    require(after == before, f"{before} became {after}.")
    for old, new in zip(saved.model.weights, loaded.weights, strict=True):
        message = f"the variable {old.path} was loaded with other values"
        require_equal(to_numpy(new), to_numpy(old), to_numpy(old), message)
    outputs = loaded.predict(saved.inputs, verbose=0)
    message = "the outputs of the loaded model"
    require_equal(outputs, saved.outputs, saved.outputs, message, 1e-5, 1e-6)


def _shipped(subject: Subject) -> bool:
    """True if another process can find the class."""
    component = registry.component_of(type(subject.sample))
    return component is not None and component.namespace != LOCAL


@of_constraints(when=_shipped)
@of_quantizers(when=_shipped)
def saved_for_others(subject: Subject) -> None:
    """A fresh process, which finds plugins by their entry points alone, loads the model."""
    saved = trained(subject)
    with _written(saved) as path:
        outputs = fresh_process.predict(path, saved.inputs)
    require_equal(outputs, saved.outputs, saved.outputs, "the outputs there", 1e-5, 1e-6)
