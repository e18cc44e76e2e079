"""The changes that a plan makes to a layer: what is replaced, and what stays in float."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import keras

from qframe import keras_internals
from qframe.layers.attachment import equal, settings_of
from qframe.layers.quantized import Quantized
from qframe.layers.slots import Slot, slots_of


def named(value: Any) -> str:
    """A quantizer or constraint as a report writes it: with its parameters."""
    if isinstance(value, keras.constraints.Constraint) and " object at " in repr(value):
        parameters = ", ".join(f"{k}={v!r}" for k, v in value.get_config().items())
        return f"{type(value).__name__}({parameters})"
    return repr(value)


def replaced_by(layer: Any, words: Mapping[str, Any]) -> dict[str, Any]:
    """What a layer has that other words replace, by word; what stays is not in it."""
    if not words:
        return {}
    before = settings_of(layer) if isinstance(layer, Quantized) else {}
    for slot in slots_of(layer):
        key = f"{slot.name}_constraint"
        if key in words and key not in before:
            # The one on the variable alone is applied, though not saved.
            own = getattr(layer, key, None)
            if own is None:
                own = getattr(slot.variable, "constraint", None)
            if own is not None:
                before[key] = own
    return {k: v for k, v in before.items() if not _same(k, v, words.get(k))}


def _same(key: str, before: Any, after: Any) -> bool:
    if key.endswith("_constraint"):
        return equal(before, after)
    return repr(before) == repr(after)  # as `attach` compares them


def counts_of(layer: Any, slots: Iterable[Slot], counted: set[int]) -> tuple[int, int]:
    """How many numbers the weights of a layer hold, and how many of them stay in float.

    Args:
        layer: without the layers in it, which count for themselves.
        slots: its filled slots.
        counted: the ids of weights that were counted, which are not counted again.
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
