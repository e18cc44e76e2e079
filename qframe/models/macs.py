"""Counters of multiply-accumulate operations by class of layer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import keras

from qframe import keras_internals
from qframe.layers.slots import filled_slots
from qframe.layers.table import TABLE, nearest
from qframe.models import kernels, sequences
from qframe.models.calls import Call
from qframe.models.kernels import MacCount
from qframe.quantizers import Quantizer

Counter = Callable[[Any, Call], Iterable[MacCount]]

_FUNCTIONS = {**vars(sequences), **vars(kernels)}
COUNTERS: Mapping[type, Counter] = {
    cls: _FUNCTIONS[row.counter] for cls, row in TABLE.items() if row.counter
}
# The classes of operations of `keras.ops` are not public, so their names stand for them.
_OPERATIONS: dict[str, Counter] = {
    "Matmul": sequences.matrix_product,
    "Conv": kernels.unknown,
    "ConvTranspose": kernels.unknown,
    "DepthwiseConv": kernels.unknown,
    "Dot": kernels.unknown,
    "DotProductAttention": kernels.unknown,
    "Einsum": kernels.unknown,
    "Inner": kernels.unknown,
    "SeparableConv": kernels.unknown,
    "Tensordot": kernels.unknown,
    "Vdot": kernels.unknown,
}


def counter_of(operation: Any) -> Counter | None:
    """Return the counter of a layer of Keras or of an operation.

    The operations of a subclass with another call are unknown.
    """
    if isinstance(operation, Quantizer):
        return kernels.no_macs
    if not isinstance(operation, keras.layers.Layer):
        return _OPERATIONS.get(type(operation).__name__)
    counter = nearest(COUNTERS, type(operation))
    if counter is None:
        return None
    return counter if keras_internals.runs_keras(operation) else kernels.unknown


def macs_of(layer: Any, call: Call) -> Iterable[MacCount]:
    """Count the multiply-accumulate operations of one call of a layer without parts.

    A layer that is not from Keras multiplies if it has weights.
    """
    counter = counter_of(layer)
    if counter is None:
        of_quantizers = {
            id(variable)
            for slot in filled_slots(layer)
            for variable in getattr(slot.quantizer, "variables", ())
        }
        multiplies = any(id(weight) not in of_quantizers for weight in layer.weights)
        counter = kernels.adapted if multiplies else kernels.no_macs
    return counter(layer, call)
