"""The roles of layers and operators in an integer runtime, which fuses some of them."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any

import keras

from qframe import keras_internals
from qframe.layers.table import TABLE, nearest
from qframe.quantizers import Quantizer


class Role(enum.Enum):
    """What an integer runtime does with a layer or operator.

    A product runs with its bias, the affine functions and the ReLU behind it, as one step.
    """

    PRODUCT = "multiplies with a kernel"
    AFFINE = "scales and shifts each channel"
    RELU = "is a ReLU that a runtime fuses"
    MERGE = "adds, subtracts or multiplies two tensors"
    MOVE = "chooses, moves or repeats numbers, which keep their grid"
    JOIN = "joins tensors, which then share a grid"
    IDENTITY = "returns its input in inference"
    QUANTIZER = "returns numbers of a grid"
    FUNCTION = "computes other numbers"
    OPAQUE = "has code that is not looked into"


# By the lowering of a layer in the table.
_LOWERINGS: Mapping[str, Role] = {
    **dict.fromkeys(("convolution", "dense", "depthwise", "separable"), Role.PRODUCT),
    **dict.fromkeys(("einsum_dense", "transposed_convolution"), Role.PRODUCT),
    **dict.fromkeys(("batch_normalization", "layer_scale"), Role.AFFINE),
    **dict.fromkeys(("normalization", "rescaling"), Role.AFFINE),
    **dict.fromkeys(("add", "multiply", "subtract"), Role.MERGE),
    **dict.fromkeys(("cropping", "global_maximum", "max_pooling", "permute"), Role.MOVE),
    **dict.fromkeys(("repeat_vector", "reshape", "zero_padding"), Role.MOVE),
    "concatenate": Role.JOIN,
    "identity": Role.IDENTITY,
}
# By the class of an operator of `keras.ops`.
_OPERATORS: Mapping[str, Role] = {
    **dict.fromkeys(("Add", "Multiply", "Subtract"), Role.MERGE),
    **dict.fromkeys(("ReLU", "Relu", "Relu6"), Role.RELU),
    **dict.fromkeys(("ExpandDims", "GetItem", "Max", "Reshape", "Squeeze"), Role.MOVE),
    "Transpose": Role.MOVE,
    "Concatenate": Role.JOIN,
    **dict.fromkeys(("Cast", "Copy", "StopGradient"), Role.IDENTITY),
}
_WITH_CONSTANTS = ("Add", "Divide", "Multiply", "Subtract", "TrueDivide")
_RELU_LIMITS = (None, 1.0, 6.0)


def role_of(operation: Any, tensors: int = 1) -> Role:
    """The role of a layer or an operator.

    Args:
        operation: the layer, or the operator of `keras.ops`.
        tensors: the number of tensors that it reads, without constants. Default 1.
    """
    if isinstance(operation, Quantizer):
        return Role.QUANTIZER
    if not isinstance(operation, keras.layers.Layer):
        return _role_of_operator(operation, tensors)
    row = nearest(TABLE, type(operation))
    if row is None or keras_internals.graph_of(operation) is not None:
        return Role.OPAQUE
    if row.lowering is None or row.opaque:
        products = any(axis is not None for *_, axis in row.weights)
        return Role.PRODUCT if products and row.activates else Role.OPAQUE
    if not keras_internals.runs_keras(operation):
        return Role.FUNCTION
    if row.lowering == "activation":
        return role_of_activation(operation.activation)
    if row.lowering == "relu":
        fuses = not operation.negative_slope and not operation.threshold
        fuses = fuses and operation.max_value in _RELU_LIMITS
        return Role.RELU if fuses else Role.FUNCTION
    if row.lowering == "up_sampling":
        nearest_pixel = getattr(operation, "interpolation", "nearest") == "nearest"
        return Role.MOVE if nearest_pixel else Role.FUNCTION
    return _LOWERINGS.get(row.lowering, Role.FUNCTION)


def role_of_activation(function: Any) -> Role:
    """The role of an activation function."""
    if isinstance(function, Quantizer):
        return Role.QUANTIZER
    if function is None or function is keras.activations.linear:
        return Role.IDENTITY
    fuses = function in (keras.activations.relu, keras.activations.relu6)
    return Role.RELU if fuses else Role.FUNCTION


def _role_of_operator(operator: Any, tensors: int) -> Role:
    name = keras_internals.operation_name(operator)
    if name in _WITH_CONSTANTS and tensors == 1:
        return Role.AFFINE
    if name == "ReLU":
        fuses = not operator.negative_slope and not operator.threshold
        return Role.RELU if fuses else Role.FUNCTION
    return _OPERATORS.get(name or "", Role.FUNCTION)
