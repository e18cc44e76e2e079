"""The line of code that registers the weights of a layer class."""

from __future__ import annotations

from typing import Any

import keras

from qframe import keras_internals
from qframe.layers.attachment import float_class_of
from qframe.registry.components import WEIGHT_IN_A_LIST


def registration_of(layer: Any) -> str:
    """Return the line that registers the weights of a layer by their attributes."""
    own_ids = {id(variable) for variable in keras_internals.direct_weights(layer)}
    single: dict[str, Any] = {}
    listed = []
    for attribute, value in vars(layer).items():
        if id(value) in own_ids and attribute.isidentifier():
            single.setdefault(attribute, value)
        elif isinstance(value, (list, tuple, dict)) and attribute.lstrip("_") == attribute:
            leaves = keras.tree.flatten(value)
            if leaves and all(id(leaf) in own_ids for leaf in leaves):
                listed.append(attribute)
    # Vectors such as gains and offsets are registered only where there are no matrices.
    matrices = [name for name, value in single.items() if len(value.shape) > 1]
    names = matrices or ([] if listed else list(single))
    slots = {name.strip("_"): name for name in names}
    if len(names) == 1:
        slots = {"kernel": names[0]}
    elif listed and not slots:
        slots = {"kernel": "w"}
    arguments = "".join(f", {prefix}={name!r}" for prefix, name in slots.items())
    line = f"qframe.register_layer({float_class_of(layer).__name__}{arguments})"
    if listed:
        lists = ", ".join(listed)
        line += f" (a weight in {lists} is not an attribute: {WEIGHT_IN_A_LIST})"
    return line
