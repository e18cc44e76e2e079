"""Multiply-accumulate operations of layers with kernels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs

from qframe.layers.slots import slots_of
from qframe.models.calls import Call, Shape, multiply, size
from qframe.models.precision import Bits, StoredBits, mac_precision, slot_bits


@attrs.frozen
class MacCount:
    """The number of multiply-accumulate operations of one kind in one call of a layer.

    Args:
        count: the number for one sample; None where not known.
        precision: the bits of the wider factor; None where not known.
        input_bits: the bits of the factor that is an activation.
        direct: whether that factor is the input of the layer, not an intermediate value.
        kernel: the variable that is the other factor; None for another activation, or
            where it is not known.
    """

    count: int | None = None
    precision: int | None = None
    input_bits: Bits = None
    direct: bool = True
    kernel: Any = attrs.field(default=None, eq=False, repr=False)


def input_bits(layer: Any, call: Call) -> Bits:
    """Return the bits of the input after the quantizer of the input."""
    declared = slot_bits(layer, "input")
    return call.input.bits if declared is None else declared


def no_macs(layer: Any, call: Call) -> Iterator[MacCount]:
    """Yield no operations, for a layer without products."""
    yield from ()


def unknown(layer: Any, call: Call) -> Iterator[MacCount]:
    """Yield an unknown number of operations."""
    yield MacCount(input_bits=input_bits(layer, call))


def kernel_macs(
    layer: Any, kernel: Any, times: int | None, bits: Bits, direct: bool = True
) -> MacCount:
    """Count the products of each element of `kernel` with `times` inputs."""
    precision = mac_precision(bits, StoredBits(layer).of(kernel))
    count = multiply(size(tuple(kernel.shape)), times)
    return MacCount(count, precision, bits, direct, kernel)


def dense(layer: Any, call: Call) -> Iterator[MacCount]:
    """Count the operations of a dense layer, for each row of its input."""
    shape = call.input.shape
    rows = size(shape[1:-1]) if shape is not None else None
    yield kernel_macs(layer, layer.kernel, rows, input_bits(layer, call))


def convolution(layer: Any, call: Call) -> Iterator[MacCount]:
    """Count the operations of a convolution, for each pixel of its output."""
    # The kernel of a grouped convolution has the input channels of one group only.
    pixels = _pixels(layer, call.outputs[0])
    yield kernel_macs(layer, layer.kernel, pixels, input_bits(layer, call))


def transposed_convolution(layer: Any, call: Call) -> Iterator[MacCount]:
    """Count the operations of a transposed convolution, for each pixel of its input."""
    pixels = _pixels(layer, call.input.shape)
    yield kernel_macs(layer, layer.kernel, pixels, input_bits(layer, call))


def separable_convolution(layer: Any, call: Call) -> Iterator[MacCount]:
    """Count the operations of both parts of a separable convolution."""
    pixels = _pixels(layer, call.outputs[0])
    bits = input_bits(layer, call)
    yield kernel_macs(layer, layer.depthwise_kernel, pixels, bits)
    # The output of the depthwise part is not quantized.
    yield kernel_macs(layer, layer.pointwise_kernel, pixels, None, direct=False)


def einsum_dense(layer: Any, call: Call) -> Iterator[MacCount]:
    """Count the operations of an `EinsumDense` layer, by its equation."""
    operands, _ = layer.equation.replace(" ", "").split("->")
    inputs, kernel = operands.split(",")
    free: Shape = None
    if call.input.shape is not None:
        labels = _labels(inputs, len(call.input.shape))
        pairs = zip(labels[1:], call.input.shape[1:], strict=True)
        free = tuple(dim for label, dim in pairs if label not in set(kernel))
    yield kernel_macs(layer, layer.kernel, size(free), input_bits(layer, call))


def reversible_embedding(layer: Any, call: Call) -> Iterator[MacCount]:
    """Count the operations of a `ReversibleEmbedding`, which multiplies in reverse only."""
    if "reverse" not in call.arguments:
        yield MacCount()
    elif call.arguments["reverse"]:
        kernel = layer.embeddings if layer.tie_weights else layer.reverse_embeddings
        shape = call.input.shape
        rows = size(shape[1:-1]) if shape is not None else None
        yield kernel_macs(layer, kernel, rows, input_bits(layer, call))


def adapted(layer: Any, call: Call) -> Iterator[MacCount]:
    """Count the operations of a layer of a user, by the kernel of its adapter.

    A kernel of the shape (..., input channels, output channels) counts as that of a dense
    layer or a convolution.
    """
    weights = [slot.weight for slot in slots_of(layer) if slot.weight is not None]
    # A bias, whatever its name, has no channel axis.
    names = [w.attribute for w in weights if w.channel_axis is not None]
    kernels = [getattr(layer, name, None) for name in names]
    inputs, outputs = call.input.shape, call.outputs[0]
    if len(kernels) == 1 and kernels[0] is not None and inputs and outputs:
        shape = tuple(kernels[0].shape)
        fits = shape[-2:] == (inputs[-1], outputs[-1]) and len(outputs) == len(inputs)
        if fits and len(shape) in (2, len(inputs)):
            rows = size(outputs[1:-1])
            yield kernel_macs(layer, kernels[0], rows, input_bits(layer, call))
            return
    yield MacCount(input_bits=input_bits(layer, call))


def _pixels(layer: Any, shape: Shape) -> int | None:
    if shape is None:
        return None
    channels_first = layer.data_format == "channels_first"
    return size(shape[2:] if channels_first else shape[1:-1])


def _labels(operand: str, rank: int) -> list[str | None]:
    """Return the label of each axis, None for those under an ellipsis."""
    if "..." not in operand:
        return list(operand)
    head, tail = operand.split("...")
    hidden = rank - len(head) - len(tail)
    return [*head, *[None] * hidden, *tail]
