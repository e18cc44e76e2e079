"""The lowering of each Keras layer that is not a product.

A new one is a function here or in `products`, named in the row of the layer in
`qframe.layers.table`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from qframe.deployment.graph import operations
from qframe.deployment.graph.operations import Activation, Affine, Merge, Operation
from qframe.deployment.graph.values import same_numbers
from qframe.deployment.lowering import products
from qframe.deployment.lowering.functions import add_activation
from qframe.deployment.lowering.products import pads_of
from qframe.deployment.lowering.tracing import Lowering, Traced, Tracer
from qframe.deployment.lowering.weights import as_array, values_of
from qframe.errors import QFrameError
from qframe.keras_internals.overrides import override_of
from qframe.layers.slots import filled_slots
from qframe.layers.table import TABLE, nearest
from qframe.quantizers import Quantizer


@functools.cache
def lowerings() -> Mapping[type, Lowering]:
    """The lowering of each Keras layer that has one, by its class."""
    functions = {**vars(products), **globals()}
    return {cls: functions[row.lowering] for cls, row in TABLE.items() if row.lowering}


def lowering_of(layer: Any) -> Lowering:
    """The lowering of a layer; raises `QFrameError` for one without."""
    if isinstance(layer, Quantizer):
        return lambda tracer, layer, inputs: tracer.add_quantizer(layer, *inputs)
    if not isinstance(layer, keras.layers.Layer):
        raise QFrameError(
            "an operation between layers is not read. Write it as a layer: "
            "keras.layers.Add()([a, b]) for a + b"
        )
    table = lowerings()
    lowering = nearest(table, type(layer))
    known = sorted(cls.__name__ for cls in table)
    if lowering is None:
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
    return functools.partial(_with_slots, lowering)


def _with_slots(
    lowering: Lowering, tracer: Tracer, layer: Any, inputs: list[Traced]
) -> Traced:
    """The lowering with the quantizers of the input and the output."""
    quantizers = {slot.name: slot.quantizer for slot in filled_slots(layer)}
    if "input" in quantizers:
        inputs = [tracer.add_quantizer(quantizers["input"], tensor) for tensor in inputs]
    output = lowering(tracer, layer, inputs)
    if "output" in quantizers:
        output = tracer.add_quantizer(quantizers["output"], output)
    return output


def identity(tracer: Tracer, layer: Any, inputs: list[Traced]) -> Traced:
    """Add no operation: in inference the layer returns its input."""
    return inputs[0]


def batch_normalization(tracer: Tracer, layer: Any, inputs: list[Traced]) -> Traced:
    """Add the scale and shift of each channel."""
    (x,) = inputs
    if layer.axis not in (-1, len(x.shape)):
        raise QFrameError(f"it normalizes axis {layer.axis}, and the channels are last")
    # The formula of Keras, so that thresholds are exact.
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


def rescaling(tracer: Tracer, layer: Any, inputs: list[Traced]) -> Traced:
    """Add a scale and a shift."""
    scale, shift = (np.asarray(a, np.float32) for a in (layer.scale, layer.offset))
    if max(scale.ndim, shift.ndim) > 1:
        raise QFrameError("its scale is neither a number nor one for each channel")
    return tracer.add(_affine(scale, shift), tracer.real(inputs[0]))


def activation(tracer: Tracer, layer: Any, inputs: list[Traced]) -> Traced:
    """Add an activation, or the quantizer in its place."""
    return add_activation(tracer, layer.activation, inputs[0])


def _on_floats(operation_of: Callable[[Any], Operation]) -> Lowering:
    """The lowering of a layer to one operation on floats."""

    def lowering(tracer: Tracer, layer: Any, inputs: list[Traced]) -> Traced:
        return tracer.add(operation_of(layer), tracer.real(inputs[0]))

    return lowering


relu = _on_floats(
    lambda layer: Activation(
        function="relu",
        alpha=float(layer.negative_slope),
        most=None if layer.max_value is None else float(layer.max_value),
        threshold=float(layer.threshold),
    )
)
leaky_relu = _on_floats(
    lambda layer: Activation(function="relu", alpha=float(layer.negative_slope))
)
elu = _on_floats(lambda layer: Activation(function="elu", alpha=float(layer.alpha)))
prelu = _on_floats(lambda layer: operations.PReLU(alpha=values_of(layer, "alpha")))
zero_padding = _on_floats(
    lambda layer: operations.Pad(pads=(*layer.padding[0], *layer.padding[1]))
)


def softmax(tracer: Tracer, layer: Any, inputs: list[Traced]) -> Traced:
    """Add a softmax along the channels."""
    if layer.axis not in (-1, len(inputs[0].shape)):
        raise QFrameError(f"it runs along axis {layer.axis}, and not along the last one")
    return tracer.add(Activation(function="softmax"), tracer.real(inputs[0]))


def max_pooling(tracer: Tracer, layer: Any, inputs: list[Traced]) -> Traced:
    """Add the maximum of windows, of integers too."""
    (x,) = inputs
    # Scales are positive, so that the largest integer is the largest number.
    return tracer.add(operations.MaxPool(**_pooling(layer, x)), x)


def average_pooling(tracer: Tracer, layer: Any, inputs: list[Traced]) -> Traced:
    """Add the mean of windows."""
    (x,) = inputs
    return tracer.add(operations.AveragePool(**_pooling(layer, x)), tracer.real(x))


def _pooling(layer: Any, x: Traced) -> dict[str, Any]:
    pool, strides = tuple(layer.pool_size), tuple(layer.strides)
    pads = pads_of(layer.padding, x.shape, pool, strides)
    return {"pool": pool, "strides": strides, "pads": pads}


def _global_pooling(function: str) -> Lowering:
    def lowered(tracer: Tracer, layer: Any, inputs: list[Traced]) -> Traced:
        x = inputs[0] if function == "max" else tracer.real(inputs[0])
        pooled = tracer.add(operations.GlobalPool(function=function), x)
        if layer.keepdims:
            shape = (*(1,) * (len(x.shape) - 1), *pooled.shape)
            pooled = tracer.add(operations.Reshape(shape=shape), pooled)
        return pooled

    return lowered


def _merge(function: str) -> Lowering:
    def lowered(tracer: Tracer, layer: Any, inputs: list[Traced]) -> Traced:
        return tracer.add(Merge(function=function), *map(tracer.real, inputs))

    return lowered


add, average, maximum = _merge("add"), _merge("average"), _merge("maximum")
minimum, multiply, subtract = _merge("minimum"), _merge("multiply"), _merge("subtract")
global_average, global_maximum = _global_pooling("average"), _global_pooling("max")


def concatenate(tracer: Tracer, layer: Any, inputs: list[Traced]) -> Traced:
    """Add a concatenation; integers of one grid stay integers."""
    if not all(same_numbers(tensor.value, inputs[0].value) for tensor in inputs):
        inputs = [tracer.real(tensor) for tensor in inputs]
    axis = layer.axis % (len(inputs[0].shape) + 1)
    if not axis:
        raise QFrameError("it joins batches")
    return tracer.add(operations.Concatenate(axis=axis), *inputs)


def reshape(tracer: Tracer, layer: Any, inputs: list[Traced]) -> Traced:
    """Add a reshape."""
    (x,) = inputs
    shape = tuple(layer.compute_output_shape((1, *x.shape)))[1:]
    return tracer.add(operations.Reshape(shape=shape), x)
