"""The edges of a Keras model in a run: what its layers and input quantizers return."""

from __future__ import annotations

from collections.abc import Set
from typing import Any

from keras import ops, tree

from qframe import observation
from qframe.deployment.graph.edges import EdgeNames
from qframe.layers.slots import filled_slots
from qframe.layers.tree import sites


class EdgeObserver(observation.Observer):
    """Notes the edges with some names.

    Args:
        model: the model.
        wanted: the names.
    """

    def __init__(self, model: Any, wanted: Set[str]) -> None:
        self._model, self._wanted = model, wanted
        self._input_quantizers = {
            id(site.layer): id(slot.quantizer)
            for site in sites(model)
            for slot in filled_slots(site.layer)
            if slot.name == "input"
        }

    def begin(self, model: Any, args: tuple[Any, ...]) -> None:
        super().begin(model, args)
        self._names = EdgeNames()
        # The layers that are being called, the innermost last, and their paths.
        self._called: list[tuple[Any, str]] = []

    def on_layer(self, layer: Any, call: Any, *args: Any, **kwargs: Any) -> Any:
        if layer is self._model:
            # A step may call the model more than once; the last call counts.
            self.begin(layer, args)
            return call(*args, **kwargs)
        # The path of this call: a layer in two models has two.
        path = f"{self._called[-1][1]}/{layer.name}" if self._called else layer.name
        self._called.append((layer, path))
        try:
            outputs = call(*args, **kwargs)
        finally:
            self._called.pop()
        self._note_edge(self._names.of_output(path), outputs)
        return outputs

    def on_quantizer(
        self, quantizer: Any, call: Any, inputs: Any, *args: Any, **kwargs: Any
    ) -> Any:
        values = call(inputs, *args, **kwargs)
        # The quantizer is a layer too.
        outer = (called for called in reversed(self._called) if called[0] is not quantizer)
        layer, path = next(outer, (None, ""))
        if self._input_quantizers.get(id(layer)) == id(quantizer):
            self._note_edge(self._names.of_input(path), values)
        return values

    def _note_edge(self, name: str, outputs: Any) -> None:
        if name in self._wanted:
            self.note(name, ops.cast(tree.flatten(outputs)[0], "float32"))
