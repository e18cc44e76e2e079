"""Multiply-accumulate operations of recurrent layers and of attention."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras

from qframe import keras_internals
from qframe.models.calls import Call, Shape, Tensor, multiply, size, tensors
from qframe.models.kernels import Product, einsum_dense, input_bits, kernel_product
from qframe.models.precision import Bits, mac_precision, slot_bits

_CELLS = (keras.layers.SimpleRNNCell, keras.layers.GRUCell, keras.layers.LSTMCell)


def recurrent(layer: Any, call: Call) -> Iterator[Product]:
    """Operations of a recurrent layer, in each step of each of its cells."""
    shape = call.input.shape
    steps = shape[1] if shape is not None else None
    bits: Bits = input_bits(layer, call)
    for index, cell in enumerate(_cells(layer.cell)):
        direct = index == 0
        if isinstance(cell, _CELLS) and keras_internals.runs_keras(cell):
            yield from _cell(layer, cell, steps, bits if direct else None, direct)
        elif cell.weights:
            yield Product(input_bits=bits, direct=direct)


def convolutional_recurrent(layer: Any, call: Call) -> Iterator[Product]:
    """Operations of a convolutional recurrent layer, at each pixel in each step."""
    given, returned = call.input.shape, call.outputs[0]
    repeats: int | None = None
    if given is not None and returned is not None:
        image = returned[2:] if layer.return_sequences else returned[1:]
        channels_first = layer.data_format == "channels_first"
        pixels = size(image[1:] if channels_first else image[:-1])
        repeats = multiply(given[1], pixels)
    yield from _cell(layer, layer.cell, repeats, input_bits(layer, call), True)


def _cells(cell: Any) -> list[Any]:
    if isinstance(cell, keras.layers.StackedRNNCells):
        return [inner for part in cell.cells for inner in _cells(part)]
    return [cell]


def _cell(
    layer: Any, cell: Any, times: int | None, bits: Bits, direct: bool
) -> Iterator[Product]:
    declared = slot_bits(cell, "input")
    bits = bits if declared is None else declared
    yield kernel_product(layer, cell.kernel, times, bits, direct)
    # The state is the cell's own, and not quantized.
    yield kernel_product(layer, cell.recurrent_kernel, times, None, direct=False)


def multi_head_attention(layer: Any, call: Call) -> Iterator[Product]:
    """The projections, and the two products of activations, which are in floats."""
    parts = {part.name: part for part in keras_internals.sublayers(layer)}
    query = call.tensor("query") or Tensor()
    value = call.tensor("value") or Tensor()
    key = call.tensor("key") or value
    for name, given in [
        ("query", query),
        ("gate", query),
        ("key", key),
        ("value", value),
    ]:
        if name in parts:
            yield from einsum_dense(parts[name], Call({"inputs": given}))
    combine = parts["attention_output"]
    positions = None if query.shape is None else size(query.shape[1:-1])
    bits = slot_bits(combine, "input")
    yield kernel_product(combine, combine.kernel, positions, bits, direct=False)
    pairs = _attended_pairs(query.shape, value.shape, layer)
    heads_and_key = size(tuple(parts["query"].kernel.shape[1:]))
    heads_and_value = size(tuple(combine.kernel.shape[:2]))
    for channels in (heads_and_key, heads_and_value):
        count = multiply(pairs, channels)
        yield Product(count, mac_precision(None), direct=False)


def _attended_pairs(query: Shape, value: Shape, layer: Any) -> int | None:
    """How many pairs of a query and a key meet: all along the attention axes."""
    if query is None or value is None:
        return None
    axes = getattr(layer, "attention_axes", None) or range(1, len(query) - 1)
    # The axes count from the end of the projected tensor, which has one for the heads.
    attended = {axis % (len(query) + 1) for axis in axes}
    others = [query[a] for a in range(1, len(query) - 1) if a not in attended]
    along = [shape[a] for shape in (query, value) for a in attended]
    return multiply(*others, *along)


def attention(layer: Any, call: Call) -> Iterator[Product]:
    """Dot-product attention without projections."""
    if layer.score_mode != "dot":
        yield Product()
        return
    shapes = [t.shape for t in call.inputs]
    query, value = shapes[:2] if len(shapes) > 1 else (None, None)
    bits = [t.bits for t in call.inputs]
    if query is None or value is None:
        yield Product(precision=mac_precision(None))
        return
    pairs = multiply(query[1], value[1])
    key_bits = bits[2] if len(bits) > 2 else bits[1]
    yield Product(multiply(pairs, query[-1]), mac_precision(bits[0], key_bits), bits[0])
    yield Product(multiply(pairs, value[-1]), mac_precision(None), direct=False)


def dot(layer: Any, call: Call) -> Iterator[Product]:
    """Operations of a `Dot` layer, a product of two activations."""
    left = call.input
    axis = layer.axes if isinstance(layer.axes, int) else layer.axes[0]
    contracted = None if left.shape is None else left.shape[axis]
    yield _of_activations(call, contracted)


def matrix_product(operation: Any, call: Call) -> Iterator[Product]:
    """`keras.ops.matmul` in a functional model."""
    shape = call.input.shape
    yield _of_activations(call, None if shape is None else shape[-1])


def _of_activations(call: Call, contracted: int | None) -> Product:
    operands = [t.bits for value in call.arguments.values() for t in tensors(value)]
    # A factor that is no tensor of the graph is a constant in floats.
    factors = [*operands, None][:2]
    returned = call.outputs[0]
    count = None if returned is None else multiply(contracted, *returned[1:])
    return Product(count, mac_precision(*factors), factors[0])
