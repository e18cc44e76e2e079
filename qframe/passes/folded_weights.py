"""The weights of a layer of products with a batch normalization folded into them."""

from __future__ import annotations

from typing import Any

import attrs
import keras
import numpy as np

from qframe.errors import QFrameError
from qframe.layers.substitution import latent
from qframe.passes.weights import (
    Array,
    OutputPlaces,
    bias_channels,
    channel_axis,
    check_digits,
    check_fits,
    dtypes_of,
    largest,
    output_kernel,
    output_places,
    values_of,
)


@attrs.frozen(eq=False)
class Folded:
    """The new kernel and bias of a layer.

    Args:
        kernel: the variable of the kernel.
        kernel_values: its new values.
        bias_values: the values of the bias.
        bias_axes: the axes of the bias of an `EinsumDense`; None for other layers.
    """

    kernel: Any
    kernel_values: Array
    bias_values: Array
    bias_axes: str | None = None


def folded(product: Any, norm: Any, rank: int) -> Folded:
    """Compute the folded weights in float64.

    Args:
        product: the layer of products.
        norm: the batch normalization behind it.
        rank: the number of axes of the output of the layer, with that of the batch.

    Raises:
        QFrameError: the layer cannot hold them; the text is the reason.
    """
    kernel = output_kernel(product)
    places = _places(product, norm, rank)
    with np.errstate(all="ignore"):
        scale = values_of(norm.gamma) if norm.scale else np.ones(places.count)
        scale = scale / np.sqrt(values_of(norm.moving_variance) + float(norm.epsilon))
        shift = -values_of(norm.moving_mean) * scale
        if norm.center:
            shift = shift + values_of(norm.beta)
        before = values_of(kernel)
        values = before * scale[places.kernel]
        bias = shift.reshape(places.bias)
        if product.bias is not None:
            channels = bias_channels(product, places)
            bias = bias + values_of(latent(product, "bias")) * scale[channels]
    if not (np.isfinite(values).all() and np.isfinite(bias).all()):
        raise QFrameError(
            f"its numbers or those of {product.name!r} are not finite, or a variance is "
            "negative"
        )
    old, new = (largest(each, places.kernel, places.count) for each in (before, values))
    for dtype in dtypes_of(product, kernel):
        for numbers in (values, bias):
            check_fits(f"the folded numbers of {product.name!r}", numbers, dtype)
        check_digits(f"the folded kernel of {product.name!r}", old, new, dtype)
    return Folded(kernel, values, bias, places.bias_axes)


def _places(product: Any, norm: Any, rank: int) -> OutputPlaces:
    """The channels of a batch normalization in the weights of the layer before it."""
    places = output_places(product, norm.axis % rank, rank)
    if places is None and isinstance(product, keras.layers.EinsumDense):
        raise QFrameError(
            f"it normalizes axis {norm.axis % rank}, which the kernel of {product.name!r} "
            "does not have"
        )
    if places is None:
        raise QFrameError(
            f"it normalizes axis {norm.axis}, and the channels of {product.name!r} are "
            f"axis {channel_axis(product, rank)}"
        )
    return places
