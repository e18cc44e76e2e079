"""The line that makes the weights of a layer class known."""

from __future__ import annotations

from typing import Any

import keras

from qframe import keras_internals
from qframe.layers.attachment import float_class_of
from qframe.registry.components import WEIGHT_IN_A_LIST


def registration_of(layer: Any) -> str:
    """The line that makes the weights of a layer known, by its attributes for them."""
    own = {id(variable) for variable in keras_internals.direct_weights(layer)}
    single: dict[str, Any] = {}
    listed = []
    for attribute, value in vars(layer).items():
        if id(value) in own and attribute.isidentifier():
            single.setdefault(attribute, value)
        elif isinstance(value, (list, tuple, dict)) and attribute.lstrip("_") == attribute:
            inside = keras.tree.flatten(value)
            if inside and all(id(variable) in own for variable in inside):
                listed.append(attribute)
    # A matrix is worth it; a gain or an offset where there is nothing else.
    matrices = [name for name, value in single.items() if len(value.shape) > 1]
    names = matrices or ([] if listed else list(single))
    words = {name.strip("_"): name for name in names}
    if len(names) == 1:
        words = {"kernel": names[0]}
    written = "".join(f", {prefix}={name!r}" for prefix, name in words.items())
    if listed and not words:
        written = ", kernel='w'"
    line = f"qframe.register_layer({float_class_of(layer).__name__}{written})"
    if listed:
        line += f" (what is in {', '.join(listed)} is no attribute: {WEIGHT_IN_A_LIST})"
    return line
