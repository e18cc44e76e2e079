"""The weights of a Keras layer in the form of a graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from keras import ops
from numpy.typing import NDArray

from qframe.deployment.graph.kernels import Kernel
from qframe.errors import QFrameError
from qframe.keras_internals import latent_value
from qframe.layers.slots import Slot, weight_slots
from qframe.layers.substitution import latent
from qframe.quantizers import Quantizer

Array = NDArray[Any]


def as_array(tensor: Any) -> Array:
    """The value of a tensor or variable in float32."""
    return np.asarray(ops.convert_to_numpy(ops.cast(tensor, "float32")))


def values_of(layer: Any, attribute: str) -> Array | None:
    """The value of a weight in a call; None for a layer without it."""
    for slot in weight_slots(layer):
        if slot.attribute == attribute:
            return as_array(slot.quantized_value())
    variable = latent(layer, attribute)
    return None if variable is None else as_array(latent_value(variable))


def kernel_of(
    layer: Any, attribute: str, arrange: Callable[[Array], Array], floats: str
) -> Kernel | Array:
    """The kernel of a layer: integers with scales, or floats if it is not quantized.

    Args:
        layer: the layer.
        attribute: the attribute of the kernel.
        arrange: transposes the Keras weight to the order of the graph.
        floats: the dtype of a kernel that is not quantized.

    Raises:
        QFrameError: the weight is quantized, and not to integers with a scale for each
            output channel.
    """
    slot = _slot(layer, attribute)
    if slot is None:
        values = values_of(layer, attribute)
        if values is None:
            raise QFrameError(f"it has no {attribute}")
        with np.errstate(over="ignore"):
            weights = np.ascontiguousarray(arrange(values), floats)
        return _finite(weights, attribute)
    result = slot.quantizer.integers(slot.latent_value(), slot.channel_axis)
    shape = result.values.shape
    scale, zero_point = result.spread()
    integers = result.values.astype(np.int64) - zero_point
    if scale.size > 1:
        scale = scale.reshape((1,) * (len(shape) - scale.ndim) + scale.shape)
        channel_axes = {axis % len(shape) for axis in _as_tuple(slot.channel_axis)}
        for axis in set(range(scale.ndim)) - channel_axes:
            # A group may span a whole channel.
            first = scale.take([0], axis)
            scale = first if (scale == first).all() else scale
        sizes = [size if axis in channel_axes else 1 for axis, size in enumerate(shape)]
        if any(scale.shape[axis] > size for axis, size in enumerate(sizes)):
            raise QFrameError(
                f"{slot.quantizer!r} has a scale for each group of inputs, and a file has "
                "one for each output channel. Write granularity='channel' or 'tensor'"
            )
        scale = np.broadcast_to(scale, sizes).reshape(-1)
    scale = np.asarray(scale.astype(np.float32).squeeze())
    return Kernel(np.ascontiguousarray(arrange(integers)), _finite(scale, attribute))


def _slot(layer: Any, attribute: str) -> Slot | None:
    """The slot of a weight that is quantized to integers; None for one in float."""
    for slot in weight_slots(layer):
        if slot.attribute == attribute and not _only_tags(slot.quantizer):
            if not isinstance(slot.quantizer, Quantizer):
                raise QFrameError(
                    f"{slot.quantizer!r} is not a qframe quantizer, and has no bits"
                )
            return slot
    return None


def _only_tags(quantizer: Any) -> bool:
    """Return whether a quantizer leaves the values as they are."""
    return isinstance(quantizer, Quantizer) and quantizer.traits.tag


def _as_tuple(axes: Any) -> tuple[int, ...]:
    return axes if isinstance(axes, tuple) else (axes,)


def _finite(array: Array, attribute: str) -> Array:
    if not np.isfinite(array).all():
        raise QFrameError(
            f"{attribute} holds numbers that are not finite, or too large for {array.dtype}"
        )
    return array
