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
    recurrent,
    shapes,
    transposed,
)
from qframe.deployment.lowering.functions import add_activation
from qframe.deployment.lowering.slots import lowering_name_of, with_slots
from qframe.deployment.lowering.tracing import Lowering, Traced, Tracer
from qframe.deployment.lowering.weights import values_of
from qframe.errors import QFrameError
from qframe.layers.table import TABLE
from qframe.quantizers import Quantizer


@functools.cache
def _functions() -> Mapping[str, Any]:
    """The lowerings by the names that the table of layers has for them."""
    modules = (
        *(attention, contracting, images, normalizations, products, recurrent, shapes),
        transposed,
    )
    return globals() | {k: v for module in modules for k, v in vars(module).items()}


def lowerings() -> Mapping[type, Lowering]:
    """The lowering of each Keras layer that has one, by its class."""
    functions = _functions()
    return {cls: functions[row.lowering] for cls, row in TABLE.items() if row.lowering}


def lowering_of(layer: Any) -> Lowering:
    """The lowering of a layer; raises `QFrameError` for one without."""
    if isinstance(layer, Quantizer):
        return lambda tracer, layer, inputs: tracer.add_quantizer(layer, *inputs)
    return functools.partial(with_slots, _functions()[lowering_name_of(layer)])


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
