"""The lowering of activation functions."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from qframe import activations
from qframe.deployment.graph.operations import Activation, Affine
from qframe.deployment.lowering.tracing import Traced, Tracer
from qframe.errors import QFrameError
from qframe.quantizers import Quantizer

# The constants with which a SELU keeps the mean 0 and the variance 1.
_SELU_ALPHA, _SELU_SCALE = 1.6732632423543772, 1.0507009873554805
# Some are not in every version of Keras; hard_tanh is in qframe too.
OPERATIONS = {
    "elu": Activation(function="elu", alpha=1.0),
    # The default of keras.activations is the exact one.
    "gelu": Activation(function="gelu"),
    "hard_tanh": Activation(function="hard_tanh"),
    "leaky_relu": Activation(function="relu", alpha=0.2),
    "leaky_tanh": Activation(function="leaky_tanh", alpha=0.2),
    "relu": Activation(function="relu"),
    "relu6": Activation(function="relu", most=6.0),
    **{
        name: Activation(function=name)
        for name in (
            *("exponential", "hard_sigmoid", "hard_silu", "mish", "sigmoid", "silu"),
            *("softmax", "softplus", "softsign", "tanh"),
        )
    },
}


def add_activation(tracer: Tracer, function: Any, x: Traced) -> Traced:
    """Add an activation, which may be a quantizer."""
    if is_linear(function):
        return x
    if isinstance(function, Quantizer):
        return tracer.add_quantizer(function, x)
    if function is keras.activations.selu:
        return add_selu(tracer, x)
    operation = operation_of(function, "activation", "linear", "selu")
    return tracer.add(operation, tracer.real(x))


def is_linear(function: Any) -> bool:
    """Return whether an activation function returns what it reads."""
    return function is None or function is keras.activations.linear


def operation_of(function: Any, attribute: str, *others: str) -> Activation:
    """The operation of an activation function.

    Args:
        function: the function.
        attribute: the attribute of the layer that it is, for the error.
        *others: what may be there besides functions with an operation.

    Raises:
        QFrameError: it has no operation.
    """
    for name, operation in OPERATIONS.items():
        modules = keras.activations, activations
        if any(function is getattr(module, name, None) for module in modules):
            return operation
    raise QFrameError(
        f"its {attribute} {getattr(function, '__name__', function)!r} is not among "
        f"{', '.join((*others, *OPERATIONS))}. Build it with one of them"
    )


def add_selu(tracer: Tracer, x: Traced) -> Traced:
    """Add a scaled ELU."""
    y = tracer.add(Activation(function="elu", alpha=_SELU_ALPHA), tracer.real(x))
    return tracer.add(Affine(scale=np.asarray(_SELU_SCALE, np.float32)), y)
