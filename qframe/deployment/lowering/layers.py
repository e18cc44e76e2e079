"""The lowering of each Keras layer: the table of all, activations, and merges.

A new one is a function here or in another module of this package, named in the row of the
layer in `qframe.layers.table`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

from qframe.deployment.graph import operations
from qframe.deployment.graph.operations import Activation, Merge, Operation
from qframe.deployment.lowering import (
    attention,
    contracting,
    images,
    normalizations,
    products,
    shapes,
    transposed,
)
from qframe.deployment.lowering.functions import add_activation
from qframe.deployment.lowering.tracing import Lowering, Traced, Tracer
from qframe.deployment.lowering.weights import values_of
from qframe.errors import QFrameError
from qframe.keras_internals.overrides import override_of
from qframe.layers.slots import filled_slots
from qframe.layers.table import TABLE, nearest
from qframe.quantizers import Quantizer


@functools.cache
def _functions() -> Mapping[str, Any]:
    """The lowerings by the names that the table of layers has for them."""
    modules = attention, contracting, images, normalizations, products, shapes, transposed
    return globals() | {k: v for module in modules for k, v in vars(module).items()}


def lowerings() -> Mapping[type, Lowering]:
    """The lowering of each Keras layer that has one, by its class."""
    functions = _functions()
    return {cls: functions[row.lowering] for cls, row in TABLE.items() if row.lowering}


def lowering_of(layer: Any) -> Lowering:
    """The lowering of a layer; raises `QFrameError` for one without."""
    if isinstance(layer, Quantizer):
        return lambda tracer, layer, inputs: tracer.add_quantizer(layer, *inputs)
    # The nearest class alone: a subclass of Keras may compute something else than its base.
    row = nearest(TABLE, type(layer))
    known = sorted(cls.__name__ for cls, row in TABLE.items() if row.lowering)
    if row is None or row.lowering is None:
        if row is not None and row.refusal is not None:
            raise QFrameError(row.refusal)
        raise QFrameError(
            f"the target has no such layer. Replace it, or put it before or after what is "
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
    return functools.partial(_with_slots, _functions()[row.lowering])


def _with_slots(
    lowering: Lowering, tracer: Tracer, layer: Any, inputs: list[Traced]
) -> Traced:
    """The lowering with the quantizers of the input and the output."""
    quantizers = {slot.name: slot.quantizer for slot in filled_slots(layer)}
    inputs = list(inputs)
    if "input" in quantizers:
        quantizer = quantizers["input"]
        inputs = [tracer.add_input_quantizer(quantizer, tensor) for tensor in inputs]
    for i, tensor in enumerate(inputs):
        if f"input_{i + 1}" in quantizers:
            inputs[i] = tracer.add_input_quantizer(quantizers[f"input_{i + 1}"], tensor)
    output = lowering(tracer, layer, inputs)
    if "output" in quantizers:
        output = tracer.add_quantizer(quantizers["output"], output)
    return output


def identity(tracer: Tracer, layer: Any, inputs: list[Traced]) -> Traced:
    """Add no operation: in inference the layer returns its input."""
    return inputs[0]


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


def softmax(tracer: Tracer, layer: Any, inputs: list[Traced]) -> Traced:
    """Add a softmax along the channels."""
    axes = layer.axis if isinstance(layer.axis, (list, tuple)) else (layer.axis,)
    if [axis % (len(inputs[0].shape) + 1) for axis in axes] != [len(inputs[0].shape)]:
        raise QFrameError(f"it runs along axis {layer.axis}, and not along the last one")
    return tracer.add(Activation(function="softmax"), tracer.real(inputs[0]))


def _merge(function: str) -> Lowering:
    def lowered(tracer: Tracer, layer: Any, inputs: list[Traced]) -> Traced:
        return tracer.add(Merge(function=function), *map(tracer.real, inputs))

    return lowered


add, average, maximum = _merge("add"), _merge("average"), _merge("maximum")
minimum, multiply, subtract = _merge("minimum"), _merge("multiply"), _merge("subtract")
