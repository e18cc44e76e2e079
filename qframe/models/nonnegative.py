"""Quantizers that map tensors without negative numbers to one value."""

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

# The path of the layer that made a tensor nonnegative; None where it may be negative.
Source = str | None

# The outputs of these are nonnegative if all inputs are.
_KEEP_THE_SIGN = layer_classes(
    "Add Average Concatenate Maximum Minimum Multiply "
    "AveragePooling1D AveragePooling2D AveragePooling3D "
    "GlobalAveragePooling1D GlobalAveragePooling2D GlobalAveragePooling3D "
    "AdaptiveAveragePooling1D AdaptiveAveragePooling2D AdaptiveAveragePooling3D "
    "ZeroPadding1D ZeroPadding2D ZeroPadding3D Masking"
)
# The same for operations, which have no public classes: of one tensor, and of several. A
# probe tests others of one tensor.
_SHAPING = {"AveragePool", "GetItem", "MaxPool", "Reshape", "Split", "Squeeze"}
_MERGING = {"Add", "Concatenate", "Maximum", "Minimum", "Multiply", "Stack"}


@attrs.frozen
class Constant:
    """A quantizer that returns one value for all of its inputs.

    Args:
        source: the path of the layer whose output is never negative.
        reader: the path of the layer that quantizes it.
        slot: ``"input"`` or ``"output"``; empty where the layer is the quantizer.
        quantizer: the quantizer.
    """

    source: str
    reader: str
    slot: str
    quantizer: Any


def constants_of(model: Any, slots_of: SlotsOf) -> tuple[Constant, ...]:
    """Return the quantizers that return a constant after a ReLU or the like.

    The search covers graphs only, since the operations of code between two layers are not
    known.

    Args:
        model: a built model or layer.
        slots_of: the filled slots of each layer.
    """
    walk = _Walk({id(site.layer): site.path for site in sites(model)}, slots_of)
    walk.alone(model)
    return tuple(dict.fromkeys(walk.constants))


class _Walk:
    def __init__(self, paths: Mapping[int, str], slots_of: SlotsOf) -> None:
        self.constants: list[Constant] = []
        self._slots_of = slots_of
        self._answers: dict[Any, bool] = {}
        self._paths = paths

    def alone(self, layer: Any) -> None:
        """Visit a layer with unknown inputs."""
        graph = keras_internals.graph_of(layer)
        self._call(layer, [None] * len(graph.inputs if graph is not None else (None,)))

    def _graph(self, graph: Any, inputs: Iterable[Source]) -> list[Source]:
        sources = dict(zip(map(id, graph.inputs), inputs, strict=True))
        for node in keras_internals.nodes(graph):
            if node.is_input:
                continue
            arguments = [sources.get(id(t)) for t in node.arguments.keras_tensors]
            outputs = self._call(node.operation, arguments, node)
            if len(outputs) != len(node.outputs):
                outputs = [None] * len(node.outputs)
            sources.update(zip(map(id, node.outputs), outputs, strict=True))
        return [sources.get(id(t)) for t in graph.outputs]

    def _call(self, layer: Any, inputs: Sequence[Source], node: Any = None) -> list[Source]:
        graph = keras_internals.graph_of(layer)
        if graph is not None:
            if len(inputs) != len(graph.inputs) or (len(inputs) > 1 and None in inputs):
                # A structure of inputs may be matched by name.
                inputs = [None] * len(graph.inputs)
            return self._graph(graph, inputs)
        slots = self._slots_of(layer) if isinstance(layer, keras.layers.Layer) else ()
        quantizers = {slot.name: slot.quantizer for slot in slots}
        inputs = list(inputs)
        if "input" in quantizers and inputs:
            inputs[0] = self._quantized(quantizers["input"], "input", inputs[0], layer)
        output = self._returned(layer, inputs, node)
        if "output" in quantizers:
            output = self._quantized(quantizers["output"], "output", output, layer)
        return [output] * len(node.outputs if node is not None else (None,))

    def _quantized(self, quantizer: Any, slot: str, source: Source, layer: Any) -> Source:
        """Return the source of a quantized tensor, and note a constant quantizer."""
        path = self._path(layer)
        if source is not None and self._probe(is_constant, quantizer):
            self.constants.append(Constant(source, path, slot, quantizer))
        nonnegative = self._probe(is_nonnegative, quantizer, source is not None)
        return (source or path) if nonnegative else None

    def _returned(self, layer: Any, inputs: Sequence[Source], node: Any) -> Source:
        """Return the source of the output of a layer before its output quantizer."""
        first = inputs[0] if inputs else None
        source = first if inputs and None not in inputs else None
        if not isinstance(layer, keras.layers.Layer):
            return self._of_operation(layer, source, node)
        if isinstance(layer, Quantizer):
            return self._quantized(layer, "", first, layer)
        wrapped = _wrapped(layer)
        if wrapped:
            outputs = [self._call(inner, [first])[0] for inner in wrapped]
            return outputs[0] if isinstance(layer, keras.layers.Wrapper) else None
        if not keras_internals.runs_keras(layer):
            for part in children(layer):
                self.alone(part)
            return None
        activation = getattr(layer, "activation", None)
        if isinstance(layer, keras.layers.Activation):
            if isinstance(activation, Quantizer):
                return self._quantized(activation, "", first, layer)
            if not self._probe(is_nonnegative, activation, source is not None):
                return None
            return source or self._path(layer)
        if adapter_of(type(layer)) is not None:
            # A recurrent cell multiplies the output of its activation.
            if activation is None or hasattr(layer, "state_size"):
                return None
            nonnegative = self._probe(is_nonnegative, activation, False)
            return self._path(layer) if nonnegative else None
        if isinstance(layer, keras.layers.UpSampling2D):
            return source if layer.interpolation in ("nearest", "bilinear") else None
        if isinstance(layer, (*KEEP_THE_GRID, *_KEEP_THE_SIGN)):
            return source
        return None if layer.variables else self._of_function(layer, source, node)

    def _of_operation(self, operation: Any, source: Source, node: Any) -> Source:
        if not keras_internals.is_of_keras(type(operation)):
            return None
        several = len(node.arguments.keras_tensors) > 1
        if type(operation).__name__ in (_MERGING if several else _SHAPING):
            return source
        return None if several else self._of_function(operation, source, node)

    def _of_function(self, layer: Any, source: Source, node: Any) -> Source:
        """Return the source of the output of a function of Keras of one tensor."""
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

        if not is_nonnegative(function, source is not None, rank):
            return None
        return source or self._path(layer)

    def _probe(self, question: Callable[..., bool], function: Any, *args: bool) -> bool:
        """Return the answer of a probe, the same for all equal quantizers."""
        stateless = isinstance(function, Quantizer) and is_stateless(function)
        key = question, repr(function) if stateless else id(function), args
        if key not in self._answers:
            self._answers[key] = question(function, *args)
        return self._answers[key]

    def _path(self, layer: Any) -> str:
        return self._paths.get(id(layer), layer.name)


def _wrapped(layer: Any) -> list[Any]:
    """Return the layers and cells that get the inputs of a layer, step by step."""
    if not keras_internals.runs_keras(layer):
        return []
    if isinstance(layer, keras.layers.RNN):
        return cells_of(layer)[:1]
    if isinstance(layer, keras.layers.Bidirectional):
        return [layer.forward_layer, layer.backward_layer]
    return [layer.layer] if isinstance(layer, keras.layers.Wrapper) else []
