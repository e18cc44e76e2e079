"""The lowering of normalizations and of layers that scale."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
from keras import ops

from qframe.deployment.graph.operations import Affine, Merge, Normalize
from qframe.deployment.lowering.shapes import add_reshape
from qframe.deployment.lowering.tracing import Traced, Tracer
from qframe.deployment.lowering.weights import as_array, values_of
from qframe.errors import QFrameError


def add_affine(tracer: Tracer, x: Traced, scale: Any = None, shift: Any = None) -> Traced:
    """Add a scale and a shift: one number each, or one for each channel."""
    if scale is None and shift is None:
        return x
    scale, shift = (None if a is None else _for_channels(a) for a in (scale, shift))
    return tracer.add(Affine(scale=scale, shift=shift), tracer.real(x))


def _for_channels(numbers: Any) -> Any:
    """Finite numbers in float32, without the axes before the channels."""
    array = np.asarray(numbers, np.float32)
    if array.ndim > 1 and array.shape[-1] == array.size:
        array = array.reshape(-1)
    if array.ndim > 1:
        raise QFrameError(
            f"its numbers have the shape {list(array.shape)}, and a scale or a shift is "
            "one number, or one for each channel"
        )
    if not np.isfinite(array).all():
        raise QFrameError("its weights hold numbers that are not finite")
    return array


def batch_normalization(tracer: Tracer, layer: Any, inputs: list[Traced]) -> Traced:
    """Add the scale and shift of each channel."""
    (x,) = inputs
    if layer.axis not in (-1, len(x.shape)):
        raise QFrameError(f"it normalizes axis {layer.axis}, and the channels are last")
    mean, variance = layer.moving_mean, layer.moving_variance
    gamma = layer.gamma if layer.scale else 1.0
    beta = values_of(layer, "beta") if layer.center else 0.0
    if tracer.target.portable:
        mean, variance, gamma, beta = (
            as_array(part).astype(float) for part in (mean, variance, gamma, beta)
        )
        scale = gamma / np.sqrt(variance + layer.epsilon)
    else:
        # The formula of Keras, so that thresholds are exact.
        beta = ops.convert_to_tensor(beta)
        scale = ops.rsqrt(variance + layer.epsilon) * gamma
    shift = beta - mean * scale
    return add_affine(tracer, x, as_array(scale), as_array(shift))


def rescaling(tracer: Tracer, layer: Any, inputs: list[Traced]) -> Traced:
    """Add a scale and a shift."""
    return add_affine(tracer, inputs[0], layer.scale, layer.offset)


def normalization(tracer: Tracer, layer: Any, inputs: list[Traced]) -> Traced:
    """Subtract the mean of the data, and divide by their deviation; or the inverse."""
    (x,) = inputs
    mean, variance = as_array(layer.mean), as_array(layer.variance)
    if mean.size == variance.size == 1:
        mean, variance = mean.reshape(()), variance.reshape(())
    deviation = np.maximum(np.sqrt(variance), np.float32(keras.config.epsilon()))
    if layer.invert:
        return add_affine(tracer, x, deviation, mean)
    # Apart, as a large mean would cost the digits of its difference from the data.
    centered = add_affine(tracer, x, shift=-mean)
    return add_affine(tracer, centered, 1 / deviation)


def layer_normalization(tracer: Tracer, layer: Any, inputs: list[Traced]) -> Traced:
    """Divide by the deviation along the last axes of a sample."""
    if getattr(layer, "rms_scaling", False):
        raise QFrameError(
            "it has rms_scaling=True, which is not the root of a mean square in every "
            "version of Keras. Build it as keras.layers.RMSNormalization"
        )
    gamma, beta = (
        None if part is None else as_array(part) for part in (layer.gamma, layer.beta)
    )
    return _normalized(tracer, inputs[0], layer, gamma, beta, "standard")


def rms_normalization(tracer: Tracer, layer: Any, inputs: list[Traced]) -> Traced:
    """Divide by the root of the mean square along the last axes of a sample."""
    return _normalized(tracer, inputs[0], layer, as_array(layer.scale), None, "rms")


def _normalized(
    tracer: Tracer, x: Traced, layer: Any, scale: Any, shift: Any, function: str
) -> Traced:
    """Normalize the last axes, joined as one, and scale each number."""
    rank = len(x.shape) + 1
    axes = layer.axis if isinstance(layer.axis, (list, tuple)) else [layer.axis]
    axes = sorted(axis % rank for axis in axes)
    if axes != list(range(rank - len(axes), rank)) or axes[0] == 0:
        raise QFrameError(f"it normalizes axes {axes}, and not the last ones")
    kept = x.shape[: rank - 1 - len(axes)]
    y = add_reshape(tracer, tracer.real(x), (*kept, math.prod(x.shape[len(kept) :])))
    axis, epsilon = len(y.shape), float(layer.epsilon)
    y = tracer.add(Normalize(axes=(axis,), epsilon=epsilon, function=function), y)
    flat = (None if part is None else part.reshape(-1) for part in (scale, shift))
    return add_reshape(tracer, add_affine(tracer, y, *flat), x.shape)


def group_normalization(tracer: Tracer, layer: Any, inputs: list[Traced]) -> Traced:
    """Divide by the deviation of a group of channels in a sample."""
    x = tracer.real(inputs[0])
    if layer.axis not in (-1, len(x.shape)):
        raise QFrameError(f"its groups are along axis {layer.axis}, and not the last one")
    *places, channels = x.shape
    groups = layer.groups
    y = add_reshape(tracer, x, (math.prod(places), groups, channels // groups))
    y = tracer.add(Normalize(axes=(1, 3), epsilon=float(layer.epsilon)), y)
    gamma, beta = (
        as_array(part) if used else None
        for part, used in ((layer.gamma, layer.scale), (layer.beta, layer.center))
    )
    return add_affine(tracer, add_reshape(tracer, y, x.shape), gamma, beta)


def layer_scale(tracer: Tracer, layer: Any, inputs: list[Traced]) -> Traced:
    """Multiply each channel, as ConvNeXt does."""
    return add_affine(tracer, inputs[0], as_array(layer.gamma))


def scaled_residual(tracer: Tracer, layer: Any, inputs: list[Traced]) -> Traced:
    """Add the second tensor times a number to the first, as InceptionResNetV2 does."""
    x, residual = inputs
    scaled = add_affine(tracer, residual, layer.scale)
    return tracer.add(Merge(function="add"), tracer.real(x), scaled)
