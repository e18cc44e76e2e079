"""The weights of a layer of products with a batch normalization folded into them."""

from __future__ import annotations

from typing import Any

import attrs
import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from qframe.errors import QFrameError
from qframe.layers.substitution import latent
from qframe.layers.table import TABLE, nearest
from qframe.quantizers.channels import ChannelAxis

Array = NDArray[np.float64]


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


@attrs.frozen(eq=False)
class _Places:
    """The channels in the kernel and in the bias of a layer.

    Args:
        kernel_axis: the axes of the kernel that are the channels.
        bias: the shape of one number for each channel, as it is added to the output.
        bias_axes: as in `Folded`.
    """

    kernel_axis: ChannelAxis
    bias: tuple[int, ...]
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
    (attribute, axis), channels = _kernel(product), int(norm.moving_mean.shape[0])
    normalized = norm.axis % rank
    if isinstance(product, keras.layers.EinsumDense):
        places = _places_of_einsum(product, normalized, rank, channels)
    else:
        first = getattr(product, "data_format", "channels_last") == "channels_first"
        if normalized != (1 if first else rank - 1):
            raise QFrameError(
                f"it normalizes axis {norm.axis}, and the channels of {product.name!r} are "
                f"axis {1 if first else rank - 1}"
            )
        places = _Places(axis, (channels,))
    kernel = latent(product, attribute)
    if not hasattr(kernel, "assign"):
        raise QFrameError(f"the {attribute} of {product.name!r} is not a variable")
    with np.errstate(all="ignore"):
        scale = _values(norm.gamma) if norm.scale else np.ones(channels)
        scale = scale / np.sqrt(_values(norm.moving_variance) + float(norm.epsilon))
        shift = -_values(norm.moving_mean) * scale
        if norm.center:
            shift = shift + _values(norm.beta)
        before = _values(kernel)
        values = before * _along(scale, kernel.shape, places.kernel_axis)
        bias = shift.reshape(places.bias)
        if product.bias is not None:
            bias = bias + _bias(product, places) * scale.reshape(places.bias)
    old, new = (_channels_first(each, places.kernel_axis) for each in (before, values))
    for dtype in sorted({str(kernel.dtype), str(product.compute_dtype)}):
        _check_fits(product, old, new, bias, dtype)
    return Folded(kernel, values, bias, places.bias_axes)


def _kernel(product: Any) -> tuple[str, Any]:
    """The attribute of the kernel that makes the output, and its channel axes."""
    row = nearest(TABLE, type(product))
    weights = () if row is None else row.weights
    *_, (attribute, _, axis) = [each for each in weights if each[2] is not None]
    return attribute, axis


def _values(variable: Any) -> Array:
    return np.asarray(ops.convert_to_numpy(variable)).astype(np.float64)


def _bias(product: Any, places: _Places) -> Array:
    """The values of a bias, with the axis of the channels."""
    bias = _values(latent(product, "bias"))
    # That of an `EinsumDense` may have more axes, before and after that of the channels.
    place = bias.ndim - len(places.bias)
    if place < 0 or bias.shape[place] != places.bias[0]:
        raise QFrameError(
            f"the bias of {product.name!r} has bias_axes={product.bias_axes!r}, without "
            "the normalized axis"
        )
    return bias


def _axes(axis: ChannelAxis, rank: int) -> tuple[int, ...]:
    axes = axis if isinstance(axis, tuple) else (axis,)
    return tuple(each % rank for each in axes if each is not None)


def _along(scale: Array, shape: Any, axis: ChannelAxis) -> Array:
    """One number for each channel, in the shape of a kernel."""
    kept = _axes(axis, len(shape))
    return scale.reshape([n if i in kept else 1 for i, n in enumerate(shape)])


def _channels_first(kernel: Array, axis: ChannelAxis) -> Array:
    """A kernel as a matrix with a row for each channel."""
    kept = _axes(axis, kernel.ndim)
    count = int(np.prod([kernel.shape[i] for i in kept]))
    return np.moveaxis(kernel, kept, range(len(kept))).reshape(count, -1)


def _places_of_einsum(product: Any, axis: int, rank: int, channels: int) -> _Places:
    operands, output = product.equation.replace(" ", "").split("->")
    kernel, labels = operands.split(",")[1], output.replace("...", "")
    others = [""] * (rank - len(labels))
    label = ([*others, *labels] if output.startswith(".") else [*labels, *others])[axis]
    if not label or kernel.count(label) != 1:
        raise QFrameError(
            f"it normalizes axis {axis}, which the kernel of {product.name!r} does not have"
        )
    bias = (channels, *(1,) * (rank - 1 - axis))
    return _Places(kernel.index(label), bias, label)


def _check_fits(
    product: Any, before: Array, kernel: Array, bias: Array, dtype: str
) -> None:
    """Raise where the numbers are not finite in a dtype, or lose their digits there.

    Args:
        product: the layer.
        before: the kernel before the change, with the channels first.
        kernel: the new kernel, with the channels first.
        bias: the new bias.
        dtype: the name of the dtype.
    """
    if not (np.isfinite(kernel).all() and np.isfinite(bias).all()):
        raise QFrameError(
            f"its numbers or those of {product.name!r} are not finite, or a variance is "
            "negative"
        )
    limits = np.finfo("float32" if dtype == "bfloat16" else dtype)
    largest = (2 - 2**-7) * 2.0**127 if dtype == "bfloat16" else float(limits.max)
    if max(np.abs(kernel).max(initial=0), np.abs(bias).max(initial=0)) > largest:
        raise QFrameError(
            f"the folded numbers of {product.name!r} do not fit {dtype}: they are larger "
            f"than {largest:.3g}"
        )
    # Processors may take smaller numbers for 0, which is an error of one in the last place
    # of the largest number then. They do not where numbers have few exponents.
    smallest = float(limits.tiny) / (1 if dtype == "float16" else float(limits.eps))
    old, new = (np.abs(each).max(axis=1, initial=0) for each in (before, kernel))
    if ((new > 0) & (new < smallest) & (old >= smallest)).any():
        raise QFrameError(
            f"the folded kernel of {product.name!r} does not fit {dtype}: a channel has no "
            f"number larger than {smallest:.3g}"
        )
