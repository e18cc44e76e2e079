"""Add slots to an existing layer in place, and remove them again.

The class of the layer is replaced by its quantized class. Mixins extend the class of a
recurrent layer, which reads the weights of its cell outside of the cell's call, and of a
unit, which Keras saves by one config for all layers inside it.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Mapping
from typing import Any

import keras

from qframe import context, keras_internals
from qframe.errors import ArgumentError
from qframe.layers.adapters import EXPLICIT, full_adapter_of
from qframe.layers.generation import quantized_class
from qframe.layers.quantized import Quantized
from qframe.layers.slots import (
    filled_slots,
    running_slots,
    slot_of,
    slots_of,
    values_in_call,
)
from qframe.layers.substitution import Substitutable, substituted

_CONSTRAINTS = "_constraints_before"
_ABSENT = object()


def float_class_of(layer: Any) -> Any:
    """The class that a layer has without qframe."""
    return getattr(type(layer), "float_class", type(layer))


class Recurrent:
    """A recurrent layer that quantizes once per call, and not at every time step."""

    def call(self, sequences: Any, *args: Any, **kwargs: Any) -> Any:
        """Call the Keras layer with its cells quantized once, before the loop over time."""
        cells = [cell for cell in cells_of(self) if isinstance(cell, Quantized)]
        with contextlib.ExitStack() as stack:
            for cell in cells:
                values = values_in_call(cell, running_slots(cell))
                stack.enter_context(substituted(cell, values))
            cell = cells_of(self)[0]
            for slot in running_slots(cell) if isinstance(cell, Quantized) else ():
                if slot.name == "input" and takes_sequences(cell):
                    sequences = slot.quantize(sequences)
                    stack.enter_context(substituted(cell, {slot.key: None}))
            if any(slot.is_activation for cell in cells for slot in running_slots(cell)):
                # The fused kernel of a GPU does not run the quantizers of activations.
                stack.enter_context(substituted(self, {"use_cudnn": False}))
            observer = context.current().observer
            if observer is not None:
                stack.enter_context(context.scoped(observer=observer.in_loop()))
            return super().call(sequences, *args, **kwargs)  # type: ignore[misc]


def takes_sequences(cell: Any) -> bool:
    """Return whether the input of the first cell is quantized before the loop over time."""
    # The axis of time shifts every axis that is counted from the front.
    return getattr(cell, "data_format", None) != "channels_first"


def cells_of(layer: Any) -> list[Any]:
    """The cells of a recurrent layer, in order."""
    cell = layer.cell
    return list(getattr(cell, "cells", [cell]))


@functools.cache
def derived_class(base: Any, mixin: Any) -> Any:
    """The subclass of a mixin and `base`, under the name that Keras uses for `base`."""
    namespace: dict[str, Any] = {
        "__module__": "qframe.layers",
        "__qualname__": f"Quant{base.__name__}",
        "float_class": getattr(base, "float_class", base),
        "__reduce__": keras_internals.reduce,
    }
    if mixin is Recurrent:
        namespace["use_cudnn"] = Substitutable(base, "use_cudnn")
    return type(base.__name__, (mixin, base), namespace)


def add_mixin(layer: Any, mixin: Any) -> None:
    """Add a mixin to the class of a layer, unless it has it."""
    base: Any = type(layer)
    if not issubclass(base, mixin):
        layer.__class__ = derived_class(base, mixin)


def attach(layer: Any, settings: Mapping[str, Any]) -> None:
    """Fill slots of a layer and set constraints of its weights.

    The settings are objects by ``<slot>_quantizer`` and ``<prefix>_constraint``, which a
    plan has checked.
    """
    if not isinstance(layer, Quantized):
        adapter = full_adapter_of(layer)
        if adapter is None:
            raise ArgumentError(
                f"the weights of {layer!r} are not known; write qframe.register_layer("
                f"{type(layer).__name__}, kernel='<attribute>')."
            )
        base: Any = type(layer)
        layer.__class__ = quantized_class(base, adapter)
        if adapter.pads:
            layer.__dict__["pad_values"] = 0.0
    for key, value in settings.items():
        name, _, kind = key.rpartition("_")
        if kind == "quantizer":
            if repr(getattr(layer, key, None)) != repr(value):
                layer.set_slot(name, value, tried=True)
        else:
            _constrain(layer, name, value)


def replace(layer: Any, settings: Mapping[str, Any]) -> None:
    """Replace the settings of a layer, and remove those that are absent here."""
    if isinstance(layer, Quantized):
        for slot in filled_slots(layer):
            if slot.key not in settings:
                layer.set_slot(slot.name, None)
        for prefix in list(layer.__dict__.get(_CONSTRAINTS, ())):
            if f"{prefix}_constraint" not in settings:
                _release(layer, prefix)
    attach(layer, settings)


def settings_of(layer: Quantized) -> dict[str, Any]:
    """The settings by which `replace` turns an empty layer into this one."""
    slots = {slot.key: slot.quantizer for slot in filled_slots(layer)}
    keys = (f"{prefix}_constraint" for prefix in layer.__dict__.get(_CONSTRAINTS, ()))
    return slots | {key: getattr(layer, key) for key in keys}


def detach(layer: Any) -> None:
    """Restore the Keras class and the constraints of a layer, and remove its slots."""
    if isinstance(layer, Quantized):
        for slot in slots_of(layer):
            if slot.quantizer is not None:
                layer.set_slot(slot.name, None)
            if hasattr(layer, slot.key):
                delattr(layer, slot.key)
        for prefix in list(layer.__dict__.get(_CONSTRAINTS, ())):
            _release(layer, prefix)
        layer.__dict__.pop("pad_values", None)
    layer.__class__ = float_class_of(layer)


def is_explicit(layer: Any) -> bool:
    """Return whether the config of a quantized layer names its slots itself."""
    return float_class_of(layer) in EXPLICIT


def recurrent_layers(layers: list[Any]) -> list[Any]:
    """The recurrent layers among `layers` that have a quantized cell."""
    return [
        layer
        for layer in layers
        if isinstance(layer, keras.layers.RNN)
        and any(isinstance(cell, Quantized) for cell in cells_of(layer))
    ]


def equal(constraint: Any, other: Any) -> bool:
    """Return whether two constraints are of one class and have the same parameters."""
    if constraint is None or other is None:
        return constraint is other
    return type(constraint) is type(other) and vars(constraint) == vars(other)


def _constrain(layer: Any, prefix: str, constraint: Any) -> None:
    key, variable = f"{prefix}_constraint", slot_of(layer, prefix).variable
    before = getattr(layer, key, _ABSENT), getattr(variable, "constraint", None)
    layer.__dict__.setdefault(_CONSTRAINTS, {}).setdefault(prefix, before)
    # Keras saves the constraint of the layer and applies that of the variable.
    setattr(layer, key, constraint)
    if variable is not None:
        variable.constraint = constraint


def _release(layer: Any, prefix: str) -> None:
    """Restore the constraints from before the first `_constrain`."""
    before = layer.__dict__[_CONSTRAINTS]
    key, variable = f"{prefix}_constraint", slot_of(layer, prefix).variable
    constraint, applied = before.pop(prefix)
    if not before:
        del layer.__dict__[_CONSTRAINTS]
    if constraint is _ABSENT:
        delattr(layer, key)
    else:
        setattr(layer, key, constraint)
    if variable is not None:
        variable.constraint = applied
