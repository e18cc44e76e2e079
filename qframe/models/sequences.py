"""Multiply-accumulate operations of recurrent layers and of attention."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras

from qframe import keras_internals
from qframe.models.calls import Call, Shape, TensorSpec, multiply, size, tensors
from qframe.models.kernels import MacCount, einsum_dense, input_bits, kernel_macs
from qframe.models.precision import Bits, mac_precision, slot_bits

_CELLS = (keras.layers.SimpleRNNCell, keras.layers.GRUCell, keras.layers.LSTMCell)


def recurrent(layer: Any, call: Call) -> Iterator[MacCount]:
    """Count the operations of a recurrent layer, in each step of each of its cells."""
    shape = call.input.shape
    steps = shape[1] if shape is not None else None
    bits: Bits = input_bits(layer, call)
    for index, cell in enumerate(_cells(layer.cell)):
        direct = index == 0
        if isinstance(cell, _CELLS) and keras_internals.runs_keras(cell):
            yield from _cell(layer, cell, steps, bits if direct else None, direct)
        elif cell.weights:
            yield MacCount(input_bits=bits, direct=direct)


def convolutional_recurrent(layer: Any, call: Call) -> Iterator[MacCount]:
    """Count the operations of a convolutional recurrent layer, per pixel and step."""
    inputs, outputs = call.input.shape, call.outputs[0]
    repeats: int | None = None
    if inputs is not None and outputs is not None:
        image = outputs[2:] if layer.return_sequences else outputs[1:]
        channels_first = layer.data_format == "channels_first"
        pixels = size(image[1:] if channels_first else image[:-1])
        repeats = multiply(inputs[1], pixels)
    yield from _cell(layer, layer.cell, repeats, input_bits(layer, call), True)


def _cells(cell: Any) -> list[Any]:
    if isinstance(cell, keras.layers.StackedRNNCells):
        return [inner for part in cell.cells for inner in _cells(part)]
    return [cell]


def _cell(
    layer: Any, cell: Any, times: int | None, bits: Bits, direct: bool
) -> Iterator[MacCount]:
    declared = slot_bits(cell, "input")
    bits = bits if declared is None else declared
    yield kernel_macs(layer, cell.kernel, times, bits, direct)
    # The state is not quantized.
    yield kernel_macs(layer, cell.recurrent_kernel, times, None, direct=False)


def multi_head_attention(layer: Any, call: Call) -> Iterator[MacCount]:
    """Count the projections, and the two products of activations, which are in float."""
    parts = {part.name: part for part in keras_internals.sublayers(layer)}
    query = call.tensor("query") or TensorSpec()
    value = call.tensor("value") or TensorSpec()
    key = call.tensor("key") or value
    inputs = {"query": query, "gate": query, "key": key, "value": value}
    for name, tensor in inputs.items():
        if name in parts:
            yield from einsum_dense(parts[name], Call({"inputs": tensor}))
    combine = parts["attention_output"]
    positions = None if query.shape is None else size(query.shape[1:-1])
    bits = slot_bits(combine, "input")
    yield kernel_macs(combine, combine.kernel, positions, bits, direct=False)
    pairs = _attended_pairs(query.shape, value.shape, layer)
    heads_and_key = size(tuple(parts["query"].kernel.shape[1:]))
    heads_and_value = size(tuple(combine.kernel.shape[:2]))
    for channels in (heads_and_key, heads_and_value):
        count = multiply(pairs, channels)
        yield MacCount(count, mac_precision(None), direct=False)


def _attended_pairs(query: Shape, value: Shape, layer: Any) -> int | None:
    """Count the pairs of a query and a key, which are all along the attention axes."""
    if query is None or value is None:
        return None
    axes = getattr(layer, "attention_axes", None) or range(1, len(query) - 1)
    # The axes count from the end of the projected tensor, which has one for the heads.
    attended = {axis % (len(query) + 1) for axis in axes}
    others = [query[a] for a in range(1, len(query) - 1) if a not in attended]
    along = [shape[a] for shape in (query, value) for a in attended]
    return multiply(*others, *along)


def attention(layer: Any, call: Call) -> Iterator[MacCount]:
    """Count the operations of dot-product attention without projections."""
    if layer.score_mode != "dot":
        yield MacCount()
        return
    shapes = [t.shape for t in call.inputs]
    query, value = shapes[:2] if len(shapes) > 1 else (None, None)
    bits = [t.bits for t in call.inputs]
    if query is None or value is None:
        yield MacCount(precision=mac_precision(None))
        return
    pairs = multiply(query[1], value[1])
    key_bits = bits[2] if len(bits) > 2 else bits[1]
    yield MacCount(multiply(pairs, query[-1]), mac_precision(bits[0], key_bits), bits[0])
    yield MacCount(multiply(pairs, value[-1]), mac_precision(None), direct=False)


def dot(layer: Any, call: Call) -> Iterator[MacCount]:
    """Count the operations of a `Dot` layer, a product of two activations."""
    left = call.input
    axis = layer.axes if isinstance(layer.axes, int) else layer.axes[0]
    contracted = None if left.shape is None else left.shape[axis]
    yield _of_activations(call, contracted)


def matrix_product(operation: Any, call: Call) -> Iterator[MacCount]:
    """Count the operations of `keras.ops.matmul` in a functional model."""
    shape = call.input.shape
    yield _of_activations(call, None if shape is None else shape[-1])


def _of_activations(call: Call, contracted: int | None) -> MacCount:
    operands = [t.bits for value in call.arguments.values() for t in tensors(value)]
    # A factor that is not a tensor of the graph is a constant in float.
    factors = [*operands, None][:2]
    output = call.outputs[0]
    count = None if output is None else multiply(contracted, *output[1:])
    return MacCount(count, mac_precision(*factors), factors[0])
