"""The layers of a model, each once, with where it is and what Keras saves it with."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs
import keras

from qframe import keras_internals
from qframe.layers.adapters import slot_attribute
from qframe.layers.quantized import Quantized


@attrs.frozen
class Site:
    """A layer and its place.

    Args:
        path: the names of the layers that it is in and its own, joined by ``/``.
        layer: the layer.
        unit: the layer that Keras saves by a config of its own and that this one is in.
        position: where it is in its unit, by indices, which unlike names are the same
            in every process; empty for the unit itself.
    """

    path: str
    layer: Any
    unit: Any
    position: tuple[int, ...] = ()


def children(layer: Any) -> list[Any]:
    """The layers that a layer is made of, in the order of its graph or its code."""
    graph = keras_internals.graph_of(layer)
    if graph is not None:
        return [op for op in graph.operations if isinstance(op, keras.layers.Layer)]
    held: set[int] = set()
    if isinstance(layer, Quantized):
        held = {id(getattr(layer, slot_attribute(s), None)) for s in layer.adapter.slots}
    return [part for part in keras_internals.sublayers(layer) if id(part) not in held]


def sites(model: Any) -> Iterator[Site]:
    """Every layer of a model, the outer before the inner, shared ones once."""
    root = Site(model.name, model, model)
    seen = {id(model)}
    if keras_internals.graph_of(model) is None:
        yield root
        yield from _inside(root, "", seen)
    else:
        yield from _units(model, "", seen)


def _units(model: Any, prefix: str, seen: set[int]) -> Iterator[Site]:
    for child in children(model):
        if id(child) in seen:
            continue
        seen.add(id(child))
        site = Site(prefix + child.name, child, child)
        if keras_internals.graph_of(child) is not None:
            yield from _units(child, f"{site.path}/", seen)
        else:
            yield site
            yield from _inside(site, f"{site.path}/", seen)


def _inside(outer: Site, prefix: str, seen: set[int]) -> Iterator[Site]:
    for index, child in enumerate(children(outer.layer)):
        if id(child) in seen:
            continue
        seen.add(id(child))
        position = (*outer.position, index)
        site = Site(prefix + child.name, child, outer.unit, position)
        yield site
        yield from _inside(site, f"{site.path}/", seen)


def at(unit: Any, position: tuple[int, ...]) -> Any:
    """The layer at a position in a unit; None where there is none."""
    layer = unit
    for index in position:
        parts = children(layer)
        if index >= len(parts):
            return None
        layer = parts[index]
    return layer
