"""The calls of layers in all live graphs, and who else holds the layers."""

from __future__ import annotations

import collections
import functools
import gc
from collections.abc import Sequence
from typing import Any

import keras

from qframe import keras_internals
from qframe.layers.adapters import Weight
from qframe.layers.attachment import float_class_of
from qframe.layers.slots import Slot, slots_of
from qframe.models.code import hidden_layers
from qframe.models.reads import reads_outside


class Calls:
    """The calls of the layers of a model in every live graph that contains them.

    Args:
        model: the model.
    """

    def __init__(self, model: Any) -> None:
        parts = keras_internals.all_layers(model)
        if _others(parts):
            # A model refers to itself, so that one that was given up may still be alive.
            gc.collect()
        #: The model, the other live models with a layer of it, and all layers in them.
        self.layers = {id(part): part for part in parts}
        self._roots = [model, *_others(parts)]
        for root in self._roots[1:]:
            self.layers |= {id(part): part for part in keras_internals.all_layers(root)}
        self._of: dict[int, dict[int, Any]] = collections.defaultdict(dict)
        self._readers: dict[int, dict[int, Any]] = collections.defaultdict(dict)
        self._makers: dict[int, Any] = {}
        self._outputs: dict[int, str] = {}
        for layer in self.layers.values():
            graph = keras_internals.graph_of(layer)
            if graph is not None:
                self._add(graph, layer.name)

    def _add(self, graph: Any, name: str) -> None:
        for node in keras_internals.nodes(graph):
            self._add_node(node)
        for tensor in graph.outputs:
            self._outputs[id(tensor)] = name

    def _add_node(self, node: Any) -> None:
        self._of[id(node.operation)][id(node)] = node
        for tensor in node.arguments.keras_tensors:
            self._readers[id(tensor)][id(node)] = node
        for tensor in node.outputs:
            self._makers[id(tensor)] = node

    def of(self, layer: Any) -> list[Any]:
        """The calls of a layer."""
        return list(self._of[id(layer)].values())

    def maker(self, tensor: Any) -> Any:
        """The call that returns a tensor; None for an input of a graph."""
        node = self._makers.get(id(tensor))
        return None if node is None or node.is_input else node

    def readers(self, tensor: Any) -> list[Any]:
        """The calls that read a tensor."""
        return list(self._readers[id(tensor)].values())

    def returned_by(self, tensor: Any) -> str | None:
        """The name of a model that returns a tensor; None where none does."""
        return self._outputs.get(id(tensor))

    def called_by_code(self, layer: Any, besides: Any = None) -> str | None:
        """The name of a layer whose code may call this one; None where only graphs do.

        Args:
            layer: the layer.
            besides: a layer that may. Default: none.
        """
        around = self._code_around[id(layer)]
        return next((each.name for each in around if each is not besides), None)

    @functools.cached_property
    def _code_around(self) -> dict[int, list[Any]]:
        around: dict[int, list[Any]] = collections.defaultdict(list)
        for holder in self.layers.values():
            if keras_internals.graph_of(holder) is None:
                hidden = hidden_layers(holder, self.layers.keys())
                for part in (*keras_internals.sublayers(holder), *hidden):
                    around[id(part)].append(holder)
        return around

    def read_by_code(self, layer: Any) -> str | None:
        """The name of what reads a weight of a layer outside of its call; None for none."""
        return next(filter(None, (self._reads.get(id(v)) for v in layer.variables)), None)

    @functools.cached_property
    def _reads(self) -> dict[int, str]:
        reads = (read for root in self._roots for read in reads_outside(root, _weights))
        return {id(slot.variable): reader for slot, reader in reads}

    @functools.cached_property
    def always_training(self) -> frozenset[int]:
        """The ids of the layers that a graph calls in training mode whatever happens."""
        nodes = (node for each in self._of.values() for node in each.values())
        modes = ((node.operation, node.arguments.kwargs.get("training")) for node in nodes)
        inner = (
            keras_internals.all_layers(operation)
            for operation, training in modes
            # A tensor, too, may be true.
            if training is not None and training is not False
            if isinstance(operation, keras.layers.Layer)
        )
        return frozenset(id(layer) for layers in inner for layer in layers)

    def containers(self, layer: Any) -> list[Any]:
        """The layers and models around a layer, with those around these."""
        return [
            other
            for key, other in self.layers.items()
            if other is not layer and id(layer) in self._contents[key]
        ]

    @functools.cached_property
    def _contents(self) -> dict[int, set[int]]:
        parts = keras_internals.all_layers
        return {key: set(map(id, parts(each))) for key, each in self.layers.items()}


def _weights(layer: Any) -> list[Slot]:
    """The slots of a layer, or such for the weights of a layer of Keras without any."""
    found = slots_of(layer)
    if found or not keras_internals.is_of_keras(float_class_of(layer)):
        return found
    names = [v.name for v in keras_internals.own_variables(layer)]
    return [
        Slot(layer, name, None, Weight(name, name, None))
        for name in names
        if isinstance(getattr(layer, name, None), keras_internals.Variable)
    ]


def _others(parts: Sequence[Any]) -> list[Any]:
    """The other live models that contain one of the layers of a model."""
    ids = set(map(id, parts))
    own = {*ids, *(id(keras_internals.graph_of(part)) for part in parts)}
    for part in parts:
        own |= set(map(id, keras_internals.former_graphs(part)))
    return [
        other
        for other in keras_internals.models_alive()
        if id(other) not in own
        and not ids.isdisjoint(map(id, keras_internals.all_layers(other)))
    ]
