"""Every call of every layer of a model: with which shapes and bits, and how often."""

from __future__ import annotations

import collections
from collections.abc import Callable, Mapping
from typing import Any

import attrs
import keras

from qframe import keras_internals
from qframe.models.calls import Call, Shape, Tensor, multiply, tensors
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
    """The calls of each layer within a built model, by the id of the layer.

    Within a graph they are exact. Where the call of a model or layer is code, each
    layer in it is taken to be called once, with the shapes that it was built with.
    """
    trace = _Trace()
    function = keras_internals.graph_of(model)
    if function is None:
        trace.as_built(model, times=1, known=True)
    else:
        trace.graph(function, [Tensor(tuple(t.shape)) for t in function.inputs], 1)
    return trace.calls


class _Trace:
    def __init__(self) -> None:
        self.calls: dict[int, list[Call]] = collections.defaultdict(list)
        self._first: dict[int, list[Shape]] = {}

    def as_built(self, layer: Any, times: int | None, known: bool) -> None:
        """One call with the shapes that `layer` was built with, if those are its."""
        function = keras_internals.graph_of(layer)
        if function is not None:
            shapes = [any_batch(t.shape) if known else None for t in function.inputs]
            self.graph(function, [Tensor(shape) for shape in shapes], times)
        elif layer.built:
            call = built_call(layer) if known else Call()
            self.call(layer, attrs.evolve(call, times=times))

    def call(self, layer: Any, call: Call) -> list[Bits]:
        """One call of anything; the bits of each tensor that it returns."""
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

    def graph(self, function: Any, inputs: list[Tensor], times: int | None) -> list[Tensor]:
        found = {id(t): given for t, given in zip(function.inputs, inputs, strict=True)}
        for node in keras_internals.nodes(function):
            if node.is_input:
                for tensor in node.outputs:
                    found.setdefault(id(tensor), Tensor(tuple(tensor.shape)))
                shapes = tuple(found[id(tensor)].shape for tensor in node.outputs)
                self.calls[id(node.operation)].append(Call({}, shapes, times))
                continue
            call = Call(node_arguments(node, found), node_outputs(node, found), times)
            bits = self.call(node.operation, call)
            if len(bits) != len(node.outputs):
                bits = [None] * len(node.outputs)
            for tensor, shape, b in zip(node.outputs, call.outputs, bits, strict=True):
                found[id(tensor)] = Tensor(shape, b)
        return [found.get(id(tensor), Tensor()) for tensor in function.outputs]

    def _parts(self, layer: Any, call: Call) -> None:
        # The parts were built in the first call; in a call with other shapes they see
        # shapes that nobody wrote down.
        given = _samples(call)
        first = self._first.setdefault(id(layer), given)
        built = _samples(built_call(layer)) if (parts := parts_of(layer)) else []
        known = None not in given and given == first and given[: len(built)] == built
        for part in parts:
            self.as_built(part, call.times, known and bool(built))

    def _time_distributed(self, layer: Any, call: Call) -> Bits:
        shape = call.input.shape
        inner = Call(
            {"inputs": Tensor(_without_time(shape), call.input.bits)},
            (_without_time(call.outputs[0]),),
            multiply(call.times, shape[1] if shape else None),
        )
        return self.call(layer.layer, inner)[0]

    def _bidirectional(self, layer: Any, call: Call) -> Bits:
        for direction in (layer.forward_layer, layer.backward_layer):
            shapes = returned_shapes(direction, call.input.shape)
            self.call(direction, attrs.evolve(call, outputs=shapes))
        return None

    def _same(self, layer: Any, call: Call) -> Bits:
        return self.call(layer.layer, call)[0]

    WRAPPERS: Mapping[type, Callable[[_Trace, Any, Call], Bits]] = {
        keras.layers.TimeDistributed: _time_distributed,
        keras.layers.Bidirectional: _bidirectional,
        keras.layers.SpectralNormalization: _same,
    }


def _wrapper_of(layer: Any) -> Callable[[_Trace, Any, Call], Bits] | None:
    base = next((cls for cls in type(layer).__mro__ if cls in _Trace.WRAPPERS), None)
    return _Trace.WRAPPERS[base] if base and keras_internals.runs_keras(layer) else None


def _samples(call: Call) -> list[Shape]:
    return [t.sample for value in call.arguments.values() for t in tensors(value)]


def _without_time(shape: Shape) -> Shape:
    return None if shape is None else (shape[0], *shape[2:])
