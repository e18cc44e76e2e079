"""The layers that a target refuses, collected for one error."""

from __future__ import annotations

from typing import Any

import keras

from qframe.errors import ExportError


class Refusals:
    """The refused layers of a model, by reason.

    Args:
        target: the name of the target.
    """

    def __init__(self, target: str) -> None:
        self._target = target
        self._layers: dict[str, list[str]] = {}
        self._kinds: set[str] = set()
        self._cause: Exception | None = None

    def add(self, path: str, layer: Any, error: Exception) -> None:
        """Refuse a layer, or an operation between layers."""
        kind = "layer" if isinstance(layer, keras.layers.Layer) else "operation"
        layers = self._layers.setdefault(str(error).rstrip("."), [])
        self._kinds.add(f"{kind}s")
        name = f"the {kind} {path!r} ({type(layer).__name__})"
        if name not in layers:  # a model in the model may be called twice
            layers.append(name)
        self._cause = self._cause or error

    def check(self) -> None:
        """Raise `ExportError` that names all refused layers, if there are any."""
        if not self._layers:
            return
        count = sum(map(len, self._layers.values()))
        lines = [f"{', '.join(names)}: {why}. " for why, names in self._layers.items()]
        if count == 1:
            text = f"the target {self._target!r} cannot take {lines[0]}Nothing was written."
        else:
            kinds = " and ".join(sorted(self._kinds))
            shown = "".join(f"\n- {line.rstrip()}" for line in lines)
            text = f"the target {self._target!r} cannot take {count} {kinds}:{shown}"
            text += "\nNothing was written."
        raise ExportError(text) from self._cause
