"""Weights that are quantized in their layer, and that code of users reads latent."""

from __future__ import annotations

import collections
from collections.abc import Iterator
from typing import Any

import attrs
import keras

from qframe import keras_internals
from qframe.context import should_quantize
from qframe.layers.adapters import Weight, adapter_of
from qframe.layers.substitution import latent
from qframe.layers.tree import Site, sites
from qframe.models.code import Mentions
from qframe.models.held import Held
from qframe.models.parts import is_built
from qframe.models.shapes import built_tensors
from qframe.quantizers import Quantizer

# The layer of a weight, the weight, and its quantizer.
Owned = tuple[Site, Weight, Any]
# A variable, and in whose calls it is read, the innermost first.
Read = tuple[Any, list[Any]]


@attrs.frozen
class LatentRead:
    """A quantized weight that is read without its quantizer.

    Args:
        path: of the layer that has the weight.
        prefix: of the weight, such as ``"embeddings"``.
        attribute: the weight's, of that layer.
        quantizer: the quantizer of the weight.
        reader: the path of the layer, or the name of the operation, that reads it.
    """

    path: str
    prefix: str
    attribute: str
    quantizer: Any
    reader: str


def latent_reads_of(model: Any, held: Held) -> list[LatentRead]:
    """The quantized weights that are read by other code than the calls of their layers.

    A layer whose code may read one is called without numbers, to see whether it does.
    That cannot be told of a layer that takes anything but tensors, whose code depends on
    their values, or that was built without a shape.

    Args:
        model: a built model or layer.
        held: the quantizers by slot of each layer.
    """
    found = list(sites(model))
    owned = _weights(found, held)
    if not owned:
        return []
    paths = {id(site.layer): site.path for site in found}
    attributes = {w.attribute for each in owned.values() for _, w, _ in each}
    reads: dict[tuple[int, int], Read] = {}
    for variable, readers in _Reads(Mentions(attributes, set(owned))).of(model):
        owners = owned.get(id(variable), ())
        # While its own layer is being called, the weight is the quantized one.
        if owners and not any(s.layer is r for s, *_ in owners for r in readers):
            reads.setdefault((id(variable), id(readers[0])), (variable, readers))
    return [
        LatentRead(
            site.path,
            weight.prefix,
            weight.attribute,
            quantizer,
            paths.get(id(readers[0]), readers[0].name),
        )
        for variable, readers in reads.values()
        for site, weight, quantizer in owned[id(variable)]
    ]


def _weights(found: list[Site], held: Held) -> dict[int, list[Owned]]:
    """The quantized weights by the ids of their variables, which layers may share."""
    owned = collections.defaultdict(list)
    for site in found:
        slots = held(site.layer)
        adapter = adapter_of(type(site.layer)) if slots and site.layer.built else None
        for weight in adapter.weights if adapter else ():
            variable = latent(site.layer, weight.attribute)
            if weight.prefix in slots and variable is not None:
                owned[id(variable)].append((site, weight, slots[weight.prefix]))
    return owned


class _Reads:
    """What is read by code of users that mentions the weights."""

    def __init__(self, mentions: Mentions) -> None:
        self._mentions = mentions
        self._seen: set[int] = set()

    def of(self, layer: Any, given: Any = None) -> Iterator[Read]:
        """What is read in a call of a layer or model.

        Args:
            layer: called once, wherever else a graph calls it.
            given: the arguments in a graph, by place and by name; None for those that it
                was built with.
        """
        if id(layer) in self._seen:
            return
        self._seen.add(id(layer))
        graph = keras_internals.graph_of(layer)
        if graph is None:
            if self._may_read(layer):
                yield from _as_built(layer) if given is None else _reads(layer, given)[0]
            return
        for node in keras_internals.nodes(graph):
            if node.is_input:
                continue
            yield from ((v, [node.operation]) for v in _variables_given(node))
            if isinstance(node.operation, keras.layers.Layer):
                yield from self.of(
                    node.operation, (node.arguments.args, node.arguments.kwargs)
                )

    def _may_read(self, layer: Any) -> bool:
        """Whether a layer, or one in it, may read a weight; not where a call builds one."""
        parts = keras_internals.all_layers(layer)
        parts = [part for part in parts if not isinstance(part, Quantizer)]
        if not all(map(is_built, parts)):
            return False
        graphs = [keras_internals.graph_of(part) for part in parts]
        return any(map(self._mentions.of, parts)) or any(
            _variables_given(node)
            for graph in graphs
            if graph is not None
            for node in keras_internals.nodes(graph)
        )


def _variables_given(node: Any) -> list[Any]:
    """The variables that a graph calls an operation with."""
    given = keras.tree.flatten((node.arguments.args, node.arguments.kwargs))
    return [leaf for leaf in given if isinstance(leaf, keras_internals.Variable)]


def _as_built(layer: Any) -> Iterator[Read]:
    """What is read in a call of a layer with the shapes that it was built with."""
    for dtype in (keras.config.floatx(), "int32"):
        given = built_tensors(layer, dtype)
        if given is None:
            return
        reads, whole = _reads(layer, given)
        yield from reads
        if whole:
            return


def _reads(layer: Any, given: Any) -> tuple[list[Read], bool]:
    args, kwargs = given
    return keras_internals.variables_read(layer, args, kwargs, should_quantize)
