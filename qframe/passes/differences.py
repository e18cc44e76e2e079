"""The settings that a plan replaces in a layer, and the weights that stay in float."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import keras

from qframe import keras_internals
from qframe.layers.attachment import equal, settings_of
from qframe.layers.quantized import Quantized
from qframe.layers.slots import Slot, slots_of
from qframe.registry.configurable import described


def named(value: Any) -> str:
    """Format a quantizer or constraint with all its parameters, for a report."""
    if isinstance(value, keras.constraints.Constraint) and " object at " in repr(value):
        parameters = ", ".join(f"{k}={v!r}" for k, v in value.get_config().items())
        return f"{type(value).__name__}({parameters})"
    return described(value)


def replaced_by(layer: Any, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a layer that new settings change or remove."""
    if not settings:
        return {}
    before = settings_of(layer) if isinstance(layer, Quantized) else {}
    for slot in slots_of(layer):
        key = f"{slot.name}_constraint"
        if key in settings and key not in before:
            # A constraint of the variable only is applied, though not saved.
            constraint = getattr(layer, key, None)
            if constraint is None:
                constraint = getattr(slot.variable, "constraint", None)
            if constraint is not None:
                before[key] = constraint
    return {k: v for k, v in before.items() if not _same(k, v, settings.get(k))}


def _same(key: str, before: Any, after: Any) -> bool:
    if key.endswith("_constraint"):
        return equal(before, after)
    return repr(before) == repr(after)  # as `attach` compares them


def counts_of(layer: Any, slots: Iterable[Slot], counted: set[int]) -> tuple[int, int]:
    """Count the numbers in the weights of a layer, and those that stay in float.

    Args:
        layer: the layer; its sublayers are counted separately.
        slots: its filled slots.
        counted: the ids of weights that were counted, which the call extends.
    """
    inner = {id(w) for part in keras_internals.sublayers(layer) for w in part.weights}
    quantized = {id(slot.variable) for slot in slots}
    numbers = in_float = 0
    for variable in layer.weights:
        if id(variable) in inner or id(variable) in counted:
            continue
        counted.add(id(variable))
        count = math.prod(variable.shape)
        numbers += count
        in_float += 0 if id(variable) in quantized else count
    return numbers, in_float
