"""The weights of a Keras layer, as a graph has them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from keras import ops
from numpy.typing import NDArray

from qframe.deployment.graph.kernels import Kernel
from qframe.errors import QFrameError
from qframe.keras_internals import latent_value
from qframe.layers.adapters import slot_attribute
from qframe.layers.quantized import Quantized
from qframe.layers.substitution import latent
from qframe.quantizers import Quantizer

Array = NDArray[Any]


def as_array(tensor: Any) -> Array:
    """The value of a tensor or variable in float32."""
    return np.asarray(ops.convert_to_numpy(ops.cast(tensor, "float32")))


def values_of(layer: Any, attribute: str) -> Array | None:
    """The value of a weight in a call; None where the layer has none."""
    variable = latent(layer, attribute) if isinstance(layer, Quantized) else None
    if variable is None:
        variable = getattr(layer, attribute, None)
    if variable is None:
        return None
    if isinstance(layer, Quantized):
        quantized = layer.quantized_weights()
        if attribute in quantized:
            return as_array(quantized[attribute])
    return as_array(latent_value(variable))


def kernel_of(
    layer: Any, attribute: str, arrange: Callable[[Array], Array], floats: str
) -> Kernel | Array:
    """The kernel of a layer: integers with scales, or floats where it is not quantized.

    Args:
        layer: the layer.
        attribute: the attribute of the kernel.
        arrange: brings the axes of the Keras weight into the order of the graph.
        floats: the dtype of what is not quantized.

    Raises:
        QFrameError: the weight is quantized, and not to integers with a scale for each
            output channel.
    """
    quantizer, channel_axis = _quantizer(layer, attribute)
    if quantizer is None:
        values = values_of(layer, attribute)
        if values is None:
            raise QFrameError(f"it has no {attribute}")
        with np.errstate(over="ignore"):
            weights = np.ascontiguousarray(arrange(values), floats)
        return _finite(weights, attribute)
    result = quantizer.integers(latent_value(latent(layer, attribute)), channel_axis)
    shape = result.values.shape
    scale, zero_point = result.spread()
    integers = result.values.astype(np.int64) - zero_point
    if scale.size > 1:
        scale = scale.reshape((1,) * (len(shape) - scale.ndim) + scale.shape)
        own = {axis % len(shape) for axis in _as_tuple(channel_axis)}
        for axis in set(range(scale.ndim)) - own:
            # A group may be all of a channel.
            first = scale.take([0], axis)
            scale = first if (scale == first).all() else scale
        if any(size > 1 for axis, size in enumerate(scale.shape) if axis not in own):
            raise QFrameError(
                f"{quantizer!r} has a scale for each group of inputs, and there is room "
                "for one for each output channel. Take granularity='channel' or 'tensor'"
            )
        sizes = [size if axis in own else 1 for axis, size in enumerate(shape)]
        scale = np.broadcast_to(scale, sizes).reshape(-1)
    scale = np.asarray(scale.astype(np.float32).squeeze())
    return Kernel(np.ascontiguousarray(arrange(integers)), _finite(scale, attribute))


def _quantizer(layer: Any, attribute: str) -> tuple[Any, Any]:
    """The quantizer of a weight and the axes of its output channels."""
    for weight in layer.adapter.weights if isinstance(layer, Quantized) else ():
        if weight.attribute == attribute:
            quantizer = getattr(layer, slot_attribute(weight.prefix), None)
            if quantizer is None or _only_tags(quantizer):
                break
            if not isinstance(quantizer, Quantizer):
                raise QFrameError(f"{quantizer!r} is no qframe quantizer, and has no bits")
            return quantizer, weight.channel_axis_of(layer)
    return None, None


def _only_tags(quantizer: Any) -> bool:
    """Whether a quantizer leaves the values as they are."""
    return isinstance(quantizer, Quantizer) and quantizer.traits.tag


def _as_tuple(axes: Any) -> tuple[int, ...]:
    return axes if isinstance(axes, tuple) else (axes,)


def _finite(array: Array, attribute: str) -> Array:
    if not np.isfinite(array).all():
        raise QFrameError(
            f"{attribute} holds numbers that are not finite, or too large for {array.dtype}"
        )
    return array
