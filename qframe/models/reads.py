"""Weights that code of users reads outside of the calls of their layers."""

from __future__ import annotations

import collections
from collections.abc import Iterator
from typing import Any

import attrs
import keras

from qframe import keras_internals
from qframe.context import should_quantize
from qframe.layers.slots import Slot, SlotsOf
from qframe.layers.tree import iter_slots, sites
from qframe.models.code import CodeSearch
from qframe.models.parts import is_built
from qframe.models.shapes import built_tensors
from qframe.quantizers import Quantizer

# A variable, and the layers in whose calls it is read, the innermost first.
Read = tuple[Any, list[Any]]


@attrs.frozen
class LatentRead:
    """A quantized weight that is read without its quantizer.

    Args:
        path: the path of the layer that has the weight.
        prefix: the name of the weight, such as ``"embeddings"``.
        attribute: the attribute of that layer for the weight.
        quantizer: the quantizer of the weight.
        reader: the path of the layer, or the name of the operation, that reads it.
    """

    path: str
    prefix: str
    attribute: str
    quantizer: Any
    reader: str


def latent_reads_of(model: Any, slots_of: SlotsOf) -> list[LatentRead]:
    """Return the quantized weights that are read outside of the calls of their layers.

    Args:
        model: a built model or layer.
        slots_of: the filled slots of each layer.
    """
    return [
        LatentRead(slot.path, slot.name, slot.attribute, slot.quantizer, reader)
        for slot, reader in reads_outside(model, slots_of)
    ]


def reads_outside(model: Any, slots_of: SlotsOf) -> list[tuple[Slot, str]]:
    """Return the weights that are read outside of the calls of their layers.

    A layer whose code may read a weight is called with tensors without values. Such a call
    is not possible for a layer that takes other arguments than tensors, whose code depends
    on values, or that was built without a shape.

    Args:
        model: a built model or layer.
        slots_of: the slots of each layer whose weights count.

    Returns:
        Their slots, each with the path of the layer, or the name of the operation, that
        reads it.
    """
    # Layers may share a variable.
    slots = collections.defaultdict(list)
    for slot in iter_slots(model, slots_of):
        if slot.variable is not None:
            slots[id(slot.variable)].append(slot)
    if not slots:
        return []
    attributes = {slot.attribute for owners in slots.values() for slot in owners}
    reads: dict[tuple[int, int], Read] = {}
    for variable, readers in _Reads(CodeSearch(attributes, set(slots))).of(model):
        owners = slots.get(id(variable), ())
        # In the call of its layer a weight is quantized.
        if owners and not any(slot.layer is r for slot in owners for r in readers):
            reads.setdefault((id(variable), id(readers[0])), (variable, readers))
    paths = {id(site.layer): site.path for site in sites(model)} if reads else {}
    return [
        (slot, paths.get(id(readers[0]), readers[0].name))
        for variable, readers in reads.values()
        for slot in slots[id(variable)]
    ]


class _Reads:
    """Variables that code of users reads, where a search finds a way to the weights."""

    def __init__(self, search: CodeSearch) -> None:
        self._search = search
        self._seen: set[int] = set()

    def of(self, layer: Any, arguments: Any = None) -> Iterator[Read]:
        """Yield the variables that a call of a layer or model reads.

        Args:
            layer: the layer, which is called once.
            arguments: positional and keyword arguments in a graph; None for the shapes
                that the layer was built with.
        """
        if id(layer) in self._seen:
            return
        self._seen.add(id(layer))
        graph = keras_internals.graph_of(layer)
        if graph is None:
            if self._may_read(layer):
                yield from (
                    _as_built(layer) if arguments is None else _reads(layer, arguments)[0]
                )
            return
        for node in keras_internals.nodes(graph):
            if node.is_input:
                continue
            yield from ((v, [node.operation]) for v in _variable_arguments(node))
            if isinstance(node.operation, keras.layers.Layer):
                yield from self.of(
                    node.operation, (node.arguments.args, node.arguments.kwargs)
                )

    def _may_read(self, layer: Any) -> bool:
        """Return whether a layer may read a weight, and a call builds none."""
        parts = keras_internals.all_layers(layer)
        parts = [part for part in parts if not isinstance(part, Quantizer)]
        if not all(map(is_built, parts)):
            return False
        graphs = [keras_internals.graph_of(part) for part in parts]
        return any(map(self._search.matches, parts)) or any(
            _variable_arguments(node)
            for graph in graphs
            if graph is not None
            for node in keras_internals.nodes(graph)
        )


def _variable_arguments(node: Any) -> list[Any]:
    """Return the variables among the arguments of a node of a graph."""
    arguments = keras.tree.flatten((node.arguments.args, node.arguments.kwargs))
    return [leaf for leaf in arguments if isinstance(leaf, keras_internals.Variable)]


def _as_built(layer: Any) -> Iterator[Read]:
    """Yield the reads in a call of a layer with the shapes that it was built with."""
    for dtype in (keras.config.floatx(), "int32"):
        arguments = built_tensors(layer, dtype)
        if arguments is None:
            return
        reads, complete = _reads(layer, arguments)
        yield from reads
        if complete:
            return


def _reads(layer: Any, arguments: Any) -> tuple[list[Read], bool]:
    args, kwargs = arguments
    return keras_internals.variables_read(layer, args, kwargs, should_quantize)
