"""The weights that take a scale of the channels of an output or an input."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from qframe.errors import QFrameError
from qframe.layers.substitution import latent
from qframe.passes.equalization.channel_groups import Part
from qframe.passes.equalization.places import Place, joined
from qframe.passes.weights import (
    Channels,
    bias_channels,
    channel_axis,
    labels,
    numbered,
    output_kernel,
    output_places,
    row_of,
    variable_of,
)


def made_by(product: Any, rank: int, axes: tuple[int, ...]) -> tuple[Place, list[Part]]:
    """The channels that a layer of products makes along axes of its output.

    Returns:
        They, and the weights that make them, first the kernel.

    Raises:
        QFrameError: its kernel does not make one of the axes.
    """
    found = [output_places(product, axis, rank) for axis in axes]
    places = [each for each in found if each is not None]
    if not axes or len(places) < len(axes):
        raise QFrameError(f"the kernel of {product.name!r} makes no axis of its output")
    sizes = [each.count for each in places]
    kernel = joined([each.kernel for each in places], sizes)
    parts = [Part(product, output_kernel(product), kernel)]
    if product.bias is not None:
        each = [bias_channels(product, place) for place in places]
        parts.append(Part(product, latent(product, "bias"), joined(each, sizes)))
    return Place(axes, np.arange(int(np.prod(sizes))).reshape(sizes)), parts


def axes_made(product: Any, rank: int) -> tuple[int, ...]:
    """The axes of an output of a rank that the kernel of a layer of products makes."""
    places = {axis: output_places(product, axis, rank) for axis in range(1, rank)}
    return tuple(axis for axis, place in places.items() if place is not None)


def input_part(product: Any, place: Place, rank: int) -> Part:
    """The kernel of a layer of products that reads channels.

    Raises:
        QFrameError: it does not multiply along the axes of the channels.
    """
    if getattr(product, "pad_values", 0):
        raise QFrameError(
            f"{product.name!r} pads with pad_values={product.pad_values}, to which a scale "
            "would apply. Use pad_values=0"
        )
    attribute = row_of(product).weights[0][
        0
    ]  # of a separable convolution, the depthwise kernel
    variable = variable_of(product, attribute)
    shape = tuple(variable.shape)
    if len(place.axes) > 1 and not isinstance(product, keras.layers.EinsumDense):
        raise QFrameError(f"the channels that {product.name!r} reads have several axes")
    index = tuple(_read(product, attribute, shape, axis, rank) for axis in place.axes)
    return Part(product, variable, place.channels[index])


def _read(
    product: Any, attribute: str, shape: tuple[int, ...], axis: int, rank: int
) -> Channels:
    """The position along an axis of an input that each entry of a kernel multiplies."""
    refusal = f"{product.name!r} does not multiply axis {axis} with its kernel"
    if isinstance(product, keras.layers.EinsumDense):
        read, kernel = product.equation.replace(" ", "").split("->")[0].split(",")
        label = labels(read, rank)[axis]
        if not label or kernel.count(label) != 1 or read.count(label) != 1:
            raise QFrameError(refusal)
        return numbered(shape, (kernel.index(label),))
    if axis != channel_axis(product, rank):
        raise QFrameError(refusal)
    row = row_of(product)
    if row.counter == "transposed_convolution":
        return numbered(shape, (len(shape) - 1,))
    groups = getattr(product, "groups", None) or 1
    is_depthwise = row.weights[0][1] == "depthwise"
    if groups == 1 or is_depthwise:
        return numbered(shape, (len(shape) - 2,))
    inputs, outputs = shape[-2:]
    first = np.arange(outputs) // (outputs // groups) * inputs
    channels = np.arange(inputs)[:, None] + first
    return channels.reshape(*(1,) * (len(shape) - 2), inputs, outputs)
