"""What each Keras layer is in a packed model.

To add one: a function here, named in `LAYERS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from qframe.errors import QFrameError
from qframe.keras_internals.overrides import override_of
from qframe.layers.adapters import slot_attribute
from qframe.quantizers import Quantizer
from qframe_packed import operations
from qframe_packed.functions import activated
from qframe_packed.operations import Activation, Affine, Merge
from qframe_packed.products import convolution, dense, depthwise, pads_of, separable
from qframe_packed.tracing import Lowering, Tensor, Tracer
from qframe_packed.weights import as_array, values_of


def lowering_of(layer: Any) -> Lowering:
    """What to do for a layer; raises `QFrameError` for one that is not known."""
    if isinstance(layer, Quantizer):
        return lambda tracer, layer, given: tracer.quantized(layer, *given)
    found = next((LAYERS[cls] for cls in type(layer).__mro__ if cls in LAYERS), None)
    if not isinstance(layer, keras.layers.Layer):
        raise QFrameError(
            "an operation between layers is not read. Write it as a layer: "
            "keras.layers.Add()([a, b]) for a + b"
        )
    known = sorted(cls.__name__ for cls in LAYERS)
    if found is None:
        raise QFrameError(
            f"the runtime has no such layer. Replace it, or put it before or after what is "
            f"exported. These can be used: {', '.join(known)}"
        )
    override = override_of(layer)
    if override is not None:
        raise QFrameError(
            f"{override}, and code is not exported. Replace it with layers that can be: "
            f"{', '.join(known)}"
        )
    if getattr(layer, "data_format", None) == "channels_first":
        raise QFrameError("it has its channels first. Build it with channels_last")
    return _in_slots(found)


def _in_slots(inner: Lowering) -> Lowering:
    """With the quantizers of the input and the output."""

    def lowered(tracer: Tracer, layer: Any, given: list[Tensor]) -> Tensor:
        before, after = (
            getattr(layer, slot_attribute(slot), None) for slot in ("input", "output")
        )
        if before is not None:
            given = [tracer.quantized(before, tensor) for tensor in given]
        found = inner(tracer, layer, given)
        return found if after is None else tracer.quantized(after, found)

    return lowered


def _identity(tracer: Tracer, layer: Any, given: list[Tensor]) -> Tensor:
    return given[0]


def _batch_normalization(tracer: Tracer, layer: Any, given: list[Tensor]) -> Tensor:
    (x,) = given
    if layer.axis not in (-1, len(x.shape)):
        raise QFrameError(f"it normalizes axis {layer.axis}, and the channels are last")
    # As Keras computes it, so that a threshold is where Keras has it.
    scale = ops.rsqrt(layer.moving_variance + layer.epsilon)
    if layer.scale:
        scale = scale * layer.gamma
    shift = -layer.moving_mean * scale
    if layer.center:
        shift = shift + layer.beta
    return tracer.add(_affine(as_array(scale), as_array(shift)), tracer.real(x))


def _affine(scale: Any, shift: Any) -> Affine:
    if not (np.isfinite(scale).all() and np.isfinite(shift).all()):
        raise QFrameError("its weights hold numbers that are not finite")
    return Affine(scale=scale, shift=shift)


def _rescaling(tracer: Tracer, layer: Any, given: list[Tensor]) -> Tensor:
    scale, shift = (np.asarray(a, np.float32) for a in (layer.scale, layer.offset))
    if max(scale.ndim, shift.ndim) > 1:
        raise QFrameError("its scale is neither a number nor one for each channel")
    return tracer.add(_affine(scale, shift), tracer.real(given[0]))


def _activation(tracer: Tracer, layer: Any, given: list[Tensor]) -> Tensor:
    return activated(tracer, layer.activation, given[0])


def _relu(tracer: Tracer, layer: Any, given: list[Tensor]) -> Tensor:
    operation = Activation(
        function="relu",
        alpha=float(layer.negative_slope),
        most=None if layer.max_value is None else float(layer.max_value),
        threshold=float(layer.threshold),
    )
    return tracer.add(operation, tracer.real(given[0]))


def _leaky_relu(tracer: Tracer, layer: Any, given: list[Tensor]) -> Tensor:
    operation = Activation(function="relu", alpha=float(layer.negative_slope))
    return tracer.add(operation, tracer.real(given[0]))


def _elu(tracer: Tracer, layer: Any, given: list[Tensor]) -> Tensor:
    operation = Activation(function="elu", alpha=float(layer.alpha))
    return tracer.add(operation, tracer.real(given[0]))


def _prelu(tracer: Tracer, layer: Any, given: list[Tensor]) -> Tensor:
    operation = operations.PReLU(alpha=values_of(layer, "alpha"))
    return tracer.add(operation, tracer.real(given[0]))


def _softmax(tracer: Tracer, layer: Any, given: list[Tensor]) -> Tensor:
    if layer.axis not in (-1, len(given[0].shape)):
        raise QFrameError(f"it runs along axis {layer.axis}, and not along the last one")
    return tracer.add(Activation(function="softmax"), tracer.real(given[0]))


def _max_pooling(tracer: Tracer, layer: Any, given: list[Tensor]) -> Tensor:
    (x,) = given
    # The largest integer is that of the largest number: scales are above 0.
    return tracer.add(operations.MaxPool(**_pooling(layer, x)), x, scale=x.scale)


def _average_pooling(tracer: Tracer, layer: Any, given: list[Tensor]) -> Tensor:
    (x,) = given
    return tracer.add(operations.AveragePool(**_pooling(layer, x)), tracer.real(x))


def _pooling(layer: Any, x: Tensor) -> dict[str, Any]:
    pool, strides = tuple(layer.pool_size), tuple(layer.strides)
    pads = pads_of(layer.padding, x.shape, pool, strides)
    return {"pool": pool, "strides": strides, "pads": pads}


def _global_pooling(function: str) -> Lowering:
    def lowered(tracer: Tracer, layer: Any, given: list[Tensor]) -> Tensor:
        x = given[0] if function == "max" else tracer.real(given[0])
        found = tracer.add(operations.GlobalPool(function=function), x, scale=x.scale)
        if layer.keepdims:
            shape = (*(1,) * (len(x.shape) - 1), *found.shape)
            found = tracer.add(operations.Reshape(shape=shape), found, scale=x.scale)
        return found

    return lowered


def _merge(function: str) -> Lowering:
    def lowered(tracer: Tracer, layer: Any, given: list[Tensor]) -> Tensor:
        return tracer.add(Merge(function=function), *map(tracer.real, given))

    return lowered


def _concatenate(tracer: Tracer, layer: Any, given: list[Tensor]) -> Tensor:
    if len({(tensor.value.span, tensor.scale) for tensor in given}) > 1:
        given = [tracer.real(tensor) for tensor in given]
    axis = layer.axis % (len(given[0].shape) + 1)
    if not axis:
        raise QFrameError("it joins batches")
    operation = operations.Concatenate(axis=axis)
    return tracer.add(operation, *given, scale=given[0].scale)


def _reshape(tracer: Tracer, layer: Any, given: list[Tensor]) -> Tensor:
    (x,) = given
    shape = tuple(layer.compute_output_shape((1, *x.shape)))[1:]
    return tracer.add(operations.Reshape(shape=shape), x, scale=x.scale)


def _zero_padding(tracer: Tracer, layer: Any, given: list[Tensor]) -> Tensor:
    (top, bottom), (left, right) = layer.padding
    operation = operations.Pad(pads=(top, bottom, left, right))
    return tracer.add(operation, tracer.real(given[0]))


_L = keras.layers
LAYERS: Mapping[type, Lowering] = {
    _L.Activation: _activation,
    _L.ActivityRegularization: _identity,
    _L.Add: _merge("add"),
    _L.AlphaDropout: _identity,
    _L.Average: _merge("average"),
    _L.AveragePooling2D: _average_pooling,
    _L.BatchNormalization: _batch_normalization,
    _L.Concatenate: _concatenate,
    _L.Conv2D: convolution,
    _L.Dense: dense,
    _L.DepthwiseConv2D: depthwise,
    _L.Dropout: _identity,
    _L.ELU: _elu,
    _L.Flatten: _reshape,
    _L.GaussianDropout: _identity,
    _L.GaussianNoise: _identity,
    _L.GlobalAveragePooling2D: _global_pooling("average"),
    _L.GlobalMaxPooling2D: _global_pooling("max"),
    _L.Identity: _identity,
    _L.LeakyReLU: _leaky_relu,
    _L.MaxPooling2D: _max_pooling,
    _L.Maximum: _merge("maximum"),
    _L.Minimum: _merge("minimum"),
    _L.Multiply: _merge("multiply"),
    _L.PReLU: _prelu,
    _L.ReLU: _relu,
    _L.Rescaling: _rescaling,
    _L.Reshape: _reshape,
    _L.SeparableConv2D: separable,
    _L.Softmax: _softmax,
    _L.SpatialDropout2D: _identity,
    _L.Subtract: _merge("subtract"),
    _L.ZeroPadding2D: _zero_padding,
}
