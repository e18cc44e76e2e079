"""The layers and slots of a model, each once, with its path and its units of saving."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs
import keras

from qframe import keras_internals
from qframe.errors import ArgumentError
from qframe.layers.slots import Slot, SlotsOf, filled_slots, weight_slots


@attrs.frozen
class Site:
    """A layer and its location in a model.

    Args:
        path: the names of the outer layers and the name of the layer, joined by ``/``.
        layer: the layer.
        units: the layers that Keras asks for a config, from the outermost to this one.
            Keras saves by the config of the first, and clones a functional model by that
            of each layer of the graph.
        position: the indices that lead from the first unit to the layer, which unlike
            names are the same in every process; empty for that unit.
    """

    path: str
    layer: Any
    units: tuple[Any, ...]
    position: tuple[int, ...] = ()


def operations(layer: Any) -> list[Any]:
    """The operations of a layer's graph, or the layers in it without its quantizers."""
    graph = keras_internals.graph_of(layer)
    if graph is not None:
        return list(graph.operations)
    slots = {id(slot.quantizer) for slot in filled_slots(layer)}
    return [part for part in keras_internals.sublayers(layer) if id(part) not in slots]


def children(layer: Any) -> list[Any]:
    """The direct sublayers of a layer, in the order of its graph or its code."""
    return [op for op in operations(layer) if isinstance(op, keras.layers.Layer)]


def sites(model: Any) -> Iterator[Site]:
    """Every layer of a model, the outer before the inner, shared ones once."""
    if keras_internals.saves_each_layer(model):
        yield from _units(model, "", {id(model)})
    else:
        yield from within(model)


def iter_slots(model: Any, slots_of: SlotsOf = filled_slots) -> Iterator[Slot]:
    """The filled slots of a model or layer, in call order; those of a shared layer once.

    Args:
        model: the model or layer.
        slots_of: the filled slots of one layer. Default: those that it has now.
    """
    for site in sites(model):
        for slot in slots_of(site.layer):
            yield attrs.evolve(slot, path=site.path)


def quantized_weights(model: Any) -> list[Slot]:
    """The slots of the quantized weights of a model, in call order.

    Raises:
        ArgumentError: there are none.
    """
    slots = list(iter_slots(model, weight_slots))
    if not slots:
        raise ArgumentError(
            f"no weight of {model.name!r} is quantized, so there is nothing to measure. "
            "Quantize it first: qframe.quantize(model, {'kernel_quantizer': 'ste_sign'})."
        )
    return slots


def within(unit: Any) -> Iterator[Site]:
    """A unit and every layer in it, the outer before the inner, shared ones once."""
    root = Site(unit.name, unit, (unit,))
    yield root
    yield from _inside(root, "", {id(unit)})


def _units(model: Any, prefix: str, seen: set[int]) -> Iterator[Site]:
    for child in children(model):
        if id(child) in seen:
            continue
        seen.add(id(child))
        site = Site(prefix + child.name, child, (child,))
        if keras_internals.saves_each_layer(child):
            yield from _units(child, f"{site.path}/", seen)
        else:
            yield site
            yield from _inside(site, f"{site.path}/", seen)


def _inside(outer: Site, prefix: str, seen: set[int]) -> Iterator[Site]:
    has_graph = keras_internals.graph_of(outer.layer) is not None
    for index, child in enumerate(children(outer.layer)):
        if id(child) in seen:
            continue
        seen.add(id(child))
        position = (*outer.position, index)
        units = (*outer.units, child) if has_graph else outer.units
        site = Site(prefix + child.name, child, units, position)
        yield site
        yield from _inside(site, f"{site.path}/", seen)
