"""Trace the calls of the layers of a model, with their shapes and bits."""

from __future__ import annotations

import collections
from collections.abc import Callable, Mapping
from typing import Any

import attrs
import keras

from qframe import keras_internals
from qframe.models.calls import Call, Shape, TensorSpec, multiply, tensors
from qframe.models.parts import parts_of
from qframe.models.precision import Bits, output_bits
from qframe.models.shapes import (
    any_batch,
    built_call,
    graph_inputs,
    node_arguments,
    node_outputs,
    returned_shapes,
)


def calls_of(model: Any) -> Mapping[int, list[Call]]:
    """Return the calls of each layer within a built model, by the id of the layer.

    Within a graph they are exact. Where the call of a model or layer is code, each layer in
    it counts as called once, with the shapes that it was built with.
    """
    trace = _Trace()
    function = keras_internals.graph_of(model)
    if function is None:
        trace.as_built(model, times=1, known=True)
    else:
        trace.graph(function, [TensorSpec(tuple(t.shape)) for t in function.inputs], 1)
    return trace.calls


class _Trace:
    def __init__(self) -> None:
        self.calls: dict[int, list[Call]] = collections.defaultdict(list)
        self._first: dict[int, list[Shape]] = {}

    def as_built(self, layer: Any, times: int | None, known: bool) -> None:
        """Add a call of a layer, with its build shapes where these are known to apply."""
        function = keras_internals.graph_of(layer)
        if function is not None:
            shapes = [any_batch(t.shape) if known else None for t in function.inputs]
            self.graph(function, [TensorSpec(shape) for shape in shapes], times)
        elif layer.built:
            call = built_call(layer) if known else Call()
            self.call(layer, attrs.evolve(call, times=times))

    def call(self, layer: Any, call: Call) -> list[Bits]:
        """Add a call of a layer or operation, and return the bits of its outputs."""
        function = keras_internals.graph_of(layer)
        if function is not None:
            inputs = graph_inputs(function, call)
            return [t.bits for t in self.graph(function, inputs, call.times)]
        self.calls[id(layer)].append(call)
        wrapper = _wrapper_of(layer)
        if wrapper is not None:
            return [wrapper(self, layer, call)] * len(call.outputs)
        self._parts(layer, call)
        bits = output_bits(layer, [tensor.bits for tensor in call.inputs])
        return [bits] * len(call.outputs)

    def graph(
        self, function: Any, inputs: list[TensorSpec], times: int | None
    ) -> list[TensorSpec]:
        specs = dict(zip(map(id, function.inputs), inputs, strict=True))
        for node in keras_internals.nodes(function):
            if node.is_input:
                for tensor in node.outputs:
                    specs.setdefault(id(tensor), TensorSpec(tuple(tensor.shape)))
                shapes = tuple(specs[id(tensor)].shape for tensor in node.outputs)
                self.calls[id(node.operation)].append(Call({}, shapes, times))
                continue
            call = Call(node_arguments(node, specs), node_outputs(node, specs), times)
            bits = self.call(node.operation, call)
            if len(bits) != len(node.outputs):
                bits = [None] * len(node.outputs)
            for tensor, shape, b in zip(node.outputs, call.outputs, bits, strict=True):
                specs[id(tensor)] = TensorSpec(shape, b)
        return [specs.get(id(tensor), TensorSpec()) for tensor in function.outputs]

    def _parts(self, layer: Any, call: Call) -> None:
        # The parts were built in the first call. In a call with other shapes their shapes
        # are not known.
        shapes = _samples(call)
        first = self._first.setdefault(id(layer), shapes)
        built = _samples(built_call(layer)) if (parts := parts_of(layer)) else []
        known = None not in shapes and shapes == first and shapes[: len(built)] == built
        for part in parts:
            self.as_built(part, call.times, known and bool(built))

    def _time_distributed(self, layer: Any, call: Call) -> Bits:
        shape = call.input.shape
        inner = Call(
            {"inputs": TensorSpec(_without_time(shape), call.input.bits)},
            (_without_time(call.outputs[0]),),
            multiply(call.times, shape[1] if shape else None),
        )
        return self.call(layer.layer, inner)[0]

    def _bidirectional(self, layer: Any, call: Call) -> Bits:
        for direction in (layer.forward_layer, layer.backward_layer):
            shapes = returned_shapes(direction, call.input.shape)
            self.call(direction, attrs.evolve(call, outputs=shapes))
        return None

    def _inner(self, layer: Any, call: Call) -> Bits:
        return self.call(layer.layer, call)[0]

    WRAPPERS: Mapping[type, Callable[[_Trace, Any, Call], Bits]] = {
        keras.layers.TimeDistributed: _time_distributed,
        keras.layers.Bidirectional: _bidirectional,
        keras.layers.SpectralNormalization: _inner,
    }


def _wrapper_of(layer: Any) -> Callable[[_Trace, Any, Call], Bits] | None:
    base = next((cls for cls in type(layer).__mro__ if cls in _Trace.WRAPPERS), None)
    return _Trace.WRAPPERS[base] if base and keras_internals.runs_keras(layer) else None


def _samples(call: Call) -> list[Shape]:
    return [t.sample for value in call.arguments.values() for t in tensors(value)]


def _without_time(shape: Shape) -> Shape:
    return None if shape is None else (shape[0], *shape[2:])
