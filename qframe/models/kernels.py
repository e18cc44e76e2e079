"""Multiply-accumulate operations of layers with kernels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs

from qframe.layers.slots import slots_of
from qframe.models.calls import Call, Shape, multiply, size
from qframe.models.precision import Bits, StoredBits, mac_precision, slot_bits


@attrs.frozen
class Product:
    """Multiply-accumulate operations of one kind in one call of a layer.

    Args:
        count: how many for one sample; None where not known.
        precision: the bits of the wider factor; None where not known.
        input_bits: the bits of the factor that is an activation.
        direct: whether that is the input of the layer, and no intermediate value.
    """

    count: int | None = None
    precision: int | None = None
    input_bits: Bits = None
    direct: bool = True


def input_bits(layer: Any, call: Call) -> Bits:
    """The bits of the input once it is within the layer."""
    declared = slot_bits(layer, "input")
    return call.input.bits if declared is None else declared


def no_macs(layer: Any, call: Call) -> Iterator[Product]:
    """No operations: the layer multiplies no two vectors."""
    yield from ()


def unknown(layer: Any, call: Call) -> Iterator[Product]:
    """Operations that are not counted."""
    yield Product(input_bits=input_bits(layer, call))


def kernel_product(
    layer: Any, kernel: Any, times: int | None, bits: Bits, direct: bool = True
) -> Product:
    """Each element of `kernel` meets `times` inputs of so many bits."""
    precision = mac_precision(bits, StoredBits(layer).of(kernel))
    return Product(multiply(size(tuple(kernel.shape)), times), precision, bits, direct)


def dense(layer: Any, call: Call) -> Iterator[Product]:
    """Operations of a dense layer, once for each row of its input."""
    shape = call.input.shape
    rows = size(shape[1:-1]) if shape is not None else None
    yield kernel_product(layer, layer.kernel, rows, input_bits(layer, call))


def convolution(layer: Any, call: Call) -> Iterator[Product]:
    """Operations of a convolution, once for each pixel of its output."""
    # The kernel of a grouped convolution holds the input channels of one group only.
    pixels = _pixels(layer, call.outputs[0])
    yield kernel_product(layer, layer.kernel, pixels, input_bits(layer, call))


def transposed_convolution(layer: Any, call: Call) -> Iterator[Product]:
    """Operations of a transposed convolution, once for each pixel of its input."""
    pixels = _pixels(layer, call.input.shape)
    yield kernel_product(layer, layer.kernel, pixels, input_bits(layer, call))


def separable_convolution(layer: Any, call: Call) -> Iterator[Product]:
    """Operations of both parts of a separable convolution."""
    pixels = _pixels(layer, call.outputs[0])
    bits = input_bits(layer, call)
    yield kernel_product(layer, layer.depthwise_kernel, pixels, bits)
    # What the depthwise part returns is a sum, and not quantized.
    yield kernel_product(layer, layer.pointwise_kernel, pixels, None, direct=False)


def einsum_dense(layer: Any, call: Call) -> Iterator[Product]:
    """Operations of an `EinsumDense` layer, by its equation."""
    operands, _ = layer.equation.replace(" ", "").split("->")
    inputs, kernel = operands.split(",")
    free: Shape = None
    if call.input.shape is not None:
        labels = _labels(inputs, len(call.input.shape))
        pairs = zip(labels[1:], call.input.shape[1:], strict=True)
        free = tuple(dim for label, dim in pairs if label not in set(kernel))
    yield kernel_product(layer, layer.kernel, size(free), input_bits(layer, call))


def reversible_embedding(layer: Any, call: Call) -> Iterator[Product]:
    """Operations of a `ReversibleEmbedding`, which multiplies in reverse only."""
    if "reverse" not in call.arguments:
        yield Product()
    elif call.arguments["reverse"]:
        kernel = layer.embeddings if layer.tie_weights else layer.reverse_embeddings
        shape = call.input.shape
        rows = size(shape[1:-1]) if shape is not None else None
        yield kernel_product(layer, kernel, rows, input_bits(layer, call))


def adapted(layer: Any, call: Call) -> Iterator[Product]:
    """Operations of a layer of a user's class, by the kernel that its adapter names.

    Shapes that fit a dense layer or a convolution, (..., input channels, output
    channels), are taken for one.
    """
    weights = [slot.weight for slot in slots_of(layer) if slot.weight is not None]
    # A bias is a weight without channel axes, whatever it is called.
    names = [w.attribute for w in weights if w.channel_axis is not None]
    kernels = [getattr(layer, name, None) for name in names]
    inputs, returned = call.input.shape, call.outputs[0]
    if len(kernels) == 1 and kernels[0] is not None and inputs and returned:
        shape = tuple(kernels[0].shape)
        fits = shape[-2:] == (inputs[-1], returned[-1]) and len(returned) == len(inputs)
        if fits and len(shape) in (2, len(inputs)):
            rows = size(returned[1:-1])
            yield kernel_product(layer, kernels[0], rows, input_bits(layer, call))
            return
    yield Product(input_bits=input_bits(layer, call))


def _pixels(layer: Any, shape: Shape) -> int | None:
    if shape is None:
        return None
    channels_first = layer.data_format == "channels_first"
    return size(shape[2:] if channels_first else shape[1:-1])


def _labels(operand: str, rank: int) -> list[str | None]:
    """The label of each axis, None for those under an ellipsis."""
    if "..." not in operand:
        return list(operand)
    head, tail = operand.split("...")
    hidden = rank - len(head) - len(tail)
    return [*head, *[None] * hidden, *tail]
