"""Quantizers that turn what is never negative into one value."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import attrs
import keras

from qframe import keras_internals
from qframe.layers.adapters import adapter_of
from qframe.layers.attachment import cells_of
from qframe.layers.slots import SlotsOf
from qframe.layers.tree import children, sites
from qframe.models.precision import KEEP_THE_GRID, layer_classes
from qframe.models.probes import is_constant, is_nonnegative
from qframe.quantizers import Quantizer
from qframe.quantizers.base import is_stateless

# The path of what made a tensor nonnegative; None where it may be negative.
Source = str | None

# What these return is nonnegative if all that they are given is.
_KEEP_THE_SIGN = layer_classes(
    "Add Average Concatenate Maximum Minimum Multiply "
    "AveragePooling1D AveragePooling2D AveragePooling3D "
    "GlobalAveragePooling1D GlobalAveragePooling2D GlobalAveragePooling3D "
    "AdaptiveAveragePooling1D AdaptiveAveragePooling2D AdaptiveAveragePooling3D "
    "ZeroPadding1D ZeroPadding2D ZeroPadding3D Masking"
)
# The same of operations, which have no public classes: of one tensor, and of several.
# Others of one tensor are tried.
_SHAPING = {"AveragePool", "GetItem", "MaxPool", "Reshape", "Split", "Squeeze"}
_MERGING = {"Add", "Concatenate", "Maximum", "Minimum", "Multiply", "Stack"}


@attrs.frozen
class Constant:
    """A quantizer that gives one value for all that reaches it.

    Args:
        maker: the path of the layer whose output is never negative.
        reader: the path of the layer that quantizes it.
        slot: ``"input"`` or ``"output"``; empty where the quantizer is the layer.
        quantizer: the quantizer.
    """

    maker: str
    reader: str
    slot: str
    quantizer: Any


def constants_of(model: Any, slots_of: SlotsOf) -> tuple[Constant, ...]:
    """The quantizers that make a constant of what a ReLU or its like returns.

    Within graphs alone: what code does between two layers is not known.

    Args:
        model: a built model or layer.
        slots_of: the filled slots of each layer.
    """
    walk = _Walk({id(site.layer): site.path for site in sites(model)}, slots_of)
    walk.alone(model)
    return tuple(dict.fromkeys(walk.found))


class _Walk:
    def __init__(self, paths: Mapping[int, str], slots_of: SlotsOf) -> None:
        self.found: list[Constant] = []
        self._slots_of = slots_of
        self._answers: dict[Any, bool] = {}
        self._paths = paths

    def alone(self, layer: Any) -> None:
        """A layer of whose input nothing is known."""
        graph = keras_internals.graph_of(layer)
        self._call(layer, [None] * len(graph.inputs if graph is not None else (None,)))

    def _graph(self, graph: Any, given: Iterable[Source]) -> list[Source]:
        known = {id(t): made for t, made in zip(graph.inputs, given, strict=True)}
        for node in keras_internals.nodes(graph):
            if node.is_input:
                continue
            read = [known.get(id(t)) for t in node.arguments.keras_tensors]
            made = self._call(node.operation, read, node)
            if len(made) != len(node.outputs):
                made = [None] * len(node.outputs)
            known.update((id(t), m) for t, m in zip(node.outputs, made, strict=True))
        return [known.get(id(t)) for t in graph.outputs]

    def _call(self, layer: Any, given: Sequence[Source], node: Any = None) -> list[Source]:
        graph = keras_internals.graph_of(layer)
        if graph is not None:
            if len(given) != len(graph.inputs) or (len(given) > 1 and None in given):
                # Which is which may go by names.
                given = [None] * len(graph.inputs)
            return self._graph(graph, given)
        slots = self._slots_of(layer) if isinstance(layer, keras.layers.Layer) else ()
        quantizers = {slot.name: slot.quantizer for slot in slots}
        given = list(given)
        if "input" in quantizers and given:
            given[0] = self._quantized(quantizers["input"], "input", given[0], layer)
        made = self._returned(layer, given, node)
        if "output" in quantizers:
            made = self._quantized(quantizers["output"], "output", made, layer)
        return [made] * len(node.outputs if node is not None else (None,))

    def _quantized(self, quantizer: Any, slot: str, made: Source, layer: Any) -> Source:
        """A tensor after a quantizer, which is noted where it makes a constant."""
        path = self._path(layer)
        if made is not None and self._asked(is_constant, quantizer):
            self.found.append(Constant(made, path, slot, quantizer))
        nonnegative = self._asked(is_nonnegative, quantizer, made is not None)
        return (made or path) if nonnegative else None

    def _returned(self, layer: Any, given: Sequence[Source], node: Any) -> Source:
        """What a layer or operation returns, before its output is quantized."""
        first = given[0] if given else None
        kept = first if given and None not in given else None
        if not isinstance(layer, keras.layers.Layer):
            return self._of_operation(layer, kept, node)
        if isinstance(layer, Quantizer):
            return self._quantized(layer, "", first, layer)
        wrapped = _wrapped(layer)
        if wrapped:
            made = [self._call(inner, [first])[0] for inner in wrapped]
            return made[0] if isinstance(layer, keras.layers.Wrapper) else None
        if not keras_internals.runs_keras(layer):
            for part in children(layer):
                self.alone(part)
            return None
        activation = getattr(layer, "activation", None)
        if isinstance(layer, keras.layers.Activation):
            if isinstance(activation, Quantizer):
                return self._quantized(activation, "", first, layer)
            if not self._asked(is_nonnegative, activation, kept is not None):
                return None
            return kept or self._path(layer)
        if adapter_of(type(layer)) is not None:
            # A recurrent cell multiplies what its activation returns.
            if activation is None or hasattr(layer, "state_size"):
                return None
            nonnegative = self._asked(is_nonnegative, activation, False)
            return self._path(layer) if nonnegative else None
        if isinstance(layer, keras.layers.UpSampling2D):
            return kept if layer.interpolation in ("nearest", "bilinear") else None
        if isinstance(layer, (*KEEP_THE_GRID, *_KEEP_THE_SIGN)):
            return kept
        return None if layer.variables else self._tried(layer, kept, node)

    def _of_operation(self, operation: Any, kept: Source, node: Any) -> Source:
        if not type(operation).__module__.startswith("keras."):
            return None
        several = len(node.arguments.keras_tensors) > 1
        if type(operation).__name__ in (_MERGING if several else _SHAPING):
            return kept
        return None if several else self._tried(operation, kept, node)

    def _tried(self, layer: Any, kept: Source, node: Any) -> Source:
        """What Keras's own function of one tensor returns."""
        function, rank = layer.call, 2
        if node is not None:
            tensors = node.arguments.keras_tensors
            if len(tensors) != 1:
                return None
            rank = len(tensors[0].shape)

            def function(probe: Any) -> Any:
                args, kwargs = keras.tree.map_structure(
                    lambda leaf: probe if isinstance(leaf, keras.KerasTensor) else leaf,
                    (node.arguments.args, node.arguments.kwargs),
                )
                return layer.call(*args, **kwargs)

        if not is_nonnegative(function, kept is not None, rank):
            return None
        return kept or self._path(layer)

    def _asked(self, question: Callable[..., bool], function: Any, *args: bool) -> bool:
        """The answer of a probe; one for all quantizers that are written alike."""
        alike = isinstance(function, Quantizer) and is_stateless(function)
        key = question, repr(function) if alike else id(function), args
        if key not in self._answers:
            self._answers[key] = question(function, *args)
        return self._answers[key]

    def _path(self, layer: Any) -> str:
        return self._paths.get(id(layer), layer.name)


def _wrapped(layer: Any) -> list[Any]:
    """The layers and cells that are given what a layer is given, one by one over time."""
    if not keras_internals.runs_keras(layer):
        return []
    if isinstance(layer, keras.layers.RNN):
        return cells_of(layer)[:1]
    if isinstance(layer, keras.layers.Bidirectional):
        return [layer.forward_layer, layer.backward_layer]
    return [layer.layer] if isinstance(layer, keras.layers.Wrapper) else []
