"""The weights that take a scale of the channels of an output or an input."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from qframe.errors import QFrameError
from qframe.layers.substitution import latent
from qframe.layers.table import nearest
from qframe.passes.equalization.channel_groups import Part
from qframe.passes.equalization.passages import Place
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

# The scale and the shift of each class of normalization. Older versions of Keras lack some.
NORMS: Mapping[type, tuple[str, ...]] = {
    getattr(keras.layers, name): attributes
    for name, attributes in {
        "BatchNormalization": ("gamma", "beta"),
        "GroupNormalization": ("gamma", "beta"),
        "LayerNormalization": ("gamma", "beta"),
        "RMSNormalization": ("scale",),
    }.items()
    if hasattr(keras.layers, name)
}

_OF_LAST_AXIS = tuple(
    getattr(keras.layers, name)
    for name in ("LayerNormalization", "RMSNormalization")
    if hasattr(keras.layers, name)
)


def norm_parts(norm: Any, rank: int) -> tuple[int, int, list[Part]]:
    """The axis and the number of the channels of a normalization, and its weights.

    Raises:
        QFrameError: it has no weights for a scale.
    """
    attributes = nearest(NORMS, type(norm)) or ()
    weights = [latent(norm, name) for name in attributes]
    axes = [axis % rank for axis in np.atleast_1d(norm.axis).tolist()]
    if not weights or weights[0] is None:
        raise QFrameError(f"{norm.name!r} has scale=False, and nothing to divide")
    if len(axes) != 1 or (axes != [rank - 1] and isinstance(norm, _OF_LAST_AXIS)):
        # Of another axis, what Keras computes depends on the backend.
        raise QFrameError(f"{norm.name!r} normalizes more or others than the last axis")
    count = int(weights[0].shape[0])
    parts = [Part(norm, v, np.arange(count)) for v in weights if v is not None]
    return axes[0], count, parts


def output_parts(product: Any, rank: int) -> tuple[int, int, list[Part]]:
    """The axis and the number of the channels that a layer of products makes.

    Returns:
        They, and the weights that make them, first the kernel.

    Raises:
        QFrameError: its kernel makes none.
    """
    for axis in reversed(range(1, rank)):
        places = output_places(product, axis, rank)
        if places is not None:
            break
    else:
        raise QFrameError(f"the kernel of {product.name!r} makes no axis of its output")
    parts = [Part(product, output_kernel(product), places.kernel)]
    if product.bias is not None:
        channels = bias_channels(product, places)
        parts.append(Part(product, latent(product, "bias"), channels))
    return axis, places.count, parts


def input_part(product: Any, place: Place, rank: int) -> Part:
    """The kernel of a layer of products that reads channels.

    Raises:
        QFrameError: it does not multiply along the axis of the channels.
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
    channels = _read(product, attribute, tuple(variable.shape), place, rank)
    return Part(product, variable, place.channels[channels])


def _read(
    product: Any, attribute: str, shape: tuple[int, ...], place: Place, rank: int
) -> Channels:
    """The position along the axis of an input that each entry of a kernel multiplies."""
    refusal = f"{product.name!r} does not multiply axis {place.axis} with its kernel"
    if isinstance(product, keras.layers.EinsumDense):
        read, kernel = product.equation.replace(" ", "").split("->")[0].split(",")
        label = labels(read, rank)[place.axis]
        if not label or kernel.count(label) != 1 or read.count(label) != 1:
            raise QFrameError(refusal)
        return numbered(shape, (kernel.index(label),))
    if place.axis != channel_axis(product, rank):
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
