"""Checks that a layer computes what its class says, and that its weights are its own."""

from __future__ import annotations

from typing import Any

from qframe.errors import QFrameError
from qframe.keras_internals import own_variables
from qframe.keras_internals.overrides import override_of
from qframe.layers.roles import Role, role_of
from qframe.layers.slots import filled_slots
from qframe.layers.table import TABLE, nearest
from qframe.passes.calls import Calls


def is_product(layer: Any) -> bool:
    """Return whether a layer is one of products, or a subclass of such a layer."""
    return nearest(TABLE, type(layer)) is not None and role_of(layer) is Role.PRODUCT


def check_function(layer: Any, verb: str) -> None:
    """Raise where the function of a layer is not that of its Keras class.

    Args:
        layer: the layer.
        verb: what the caller does to it, for the error, such as ``"fold"``.
    """
    override = override_of(layer)
    if override is not None:
        raise QFrameError(str(override))
    if filled_slots(layer):
        raise QFrameError(
            f"{layer.name!r} is quantized. {verb.capitalize()} before: call "
            f"qframe.strip(model), {verb}, and quantize again"
        )


def check_callers(layer: Any, calls: Calls) -> None:
    """Raise where code may call a layer."""
    code = calls.called_by_code(layer)
    if code is not None:
        raise QFrameError(f"{layer.name!r} may be called by the code of {code!r}")


def check_weights(product: Any, calls: Calls) -> None:
    """Raise where the kernel of a layer of products is computed, or others use it too."""
    name = product.name
    if getattr(product, "quantization_mode", None):
        raise QFrameError(f"Keras has quantized {name!r}: {product.quantization_mode}")
    if getattr(product, "lora_enabled", False):
        raise QFrameError(f"LoRA is enabled on {name!r}, whose kernel is computed")
    own = set(map(id, product.variables))
    for other in calls.layers.values():
        variables = own_variables(other)
        if other is not product and not own.isdisjoint(map(id, variables)):
            raise QFrameError(f"{other.name!r} shares a weight with {name!r}")
    reader = calls.read_by_code(product)
    if reader is not None:
        raise QFrameError(f"{reader!r} reads a weight of {name!r} too")


def remark_on_training(layer: Any, numbers: str) -> str:
    """Name what sees changed weights or their outputs in training; may be empty."""
    kinds = ("_constraint", "_regularizer")
    names = [
        key
        for key, value in vars(layer).items()
        if key.endswith(kinds) and value is not None
    ]
    if not names:
        return ""
    of = f"{', '.join(names)} of {layer.name!r}"
    return f"the {numbers} numbers are subject to {of} in training"
