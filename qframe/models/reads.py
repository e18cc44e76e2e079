"""Weights that are quantized in their layer, and that other code reads as they were."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import attrs
import keras

from qframe import keras_internals
from qframe.context import should_quantize
from qframe.layers.adapters import Weight, adapter_of
from qframe.layers.substitution import latent
from qframe.layers.tree import Site, sites
from qframe.models.held import Held
from qframe.models.parts import is_built
from qframe.models.shapes import built_tensors
from qframe.quantizers import Quantizer

# The layer of a weight, and its quantizer.
Owned = tuple[Site, Weight, Any]
# A weight that is read, and the layer or operation whose code does it.
Read = tuple[Any, Any]


@attrs.frozen
class LatentRead:
    """A quantized weight that other code reads without its quantizer.

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


def latent_reads_of(model: Any, held: Held) -> tuple[LatentRead, ...]:
    """The quantized weights that not only the calls of their own layers read.

    They are seen in a call of each layer whose code is not Keras's, without numbers. What
    a layer reads that cannot be called so is not known.

    Args:
        model: a built model or layer.
        held: the quantizers by slot of each layer.
    """
    found = list(sites(model))
    weights = dict(_weights(found, held))
    if not weights:
        return ()
    paths = {id(site.layer): site.path for site in found}
    reads = []
    for variable, reader in _reads(model, set()):
        if id(variable) not in weights:
            continue
        site, weight, quantizer = weights[id(variable)]
        if reader is not site.layer:
            name = paths.get(id(reader), reader.name)
            words = site.path, weight.prefix, weight.attribute, quantizer, name
            reads.append(LatentRead(*words))
    return tuple(dict.fromkeys(reads))


def _weights(
    found: Sequence[Site], held: Held
) -> Iterator[tuple[int, tuple[Site, Weight, Any]]]:
    """The quantized weights, by the ids of their variables."""
    for site in found:
        slots = held(site.layer)
        adapter = adapter_of(type(site.layer)) if slots and site.layer.built else None
        for weight in adapter.weights if adapter else ():
            variable = latent(site.layer, weight.attribute)
            if weight.prefix in slots and variable is not None:
                yield id(variable), (site, weight, slots[weight.prefix])


def _reads(layer: Any, seen: set[int]) -> Iterator[Read]:
    """What is read in a call of a layer by code that is not Keras's."""
    if id(layer) in seen:
        return
    seen.add(id(layer))
    graph = keras_internals.graph_of(layer)
    if graph is None:
        tensors = built_tensors(layer) if _has_code(layer) else None
        if tensors is not None:
            yield from _reads_of_code(layer, (), tensors)
        return
    for node in keras_internals.nodes(graph):
        operation = node.operation
        if node.is_input:
            continue
        given = node.arguments.args, node.arguments.kwargs
        for leaf in keras.tree.flatten(given):
            if isinstance(leaf, keras.Variable):
                yield leaf, operation
        if keras_internals.graph_of(operation) is not None:
            yield from _reads(operation, seen)
        elif isinstance(operation, keras.layers.Layer) and _has_code(operation):
            yield from _reads_of_code(operation, *given)


def _reads_of_code(layer: Any, args: Any, kwargs: Any) -> Iterator[Read]:
    reads = keras_internals.variables_read(layer, args, kwargs, unless=should_quantize)
    for variable, reader in reads:
        if not keras_internals.runs_keras(reader):
            yield variable, reader


def _has_code(layer: Any) -> bool:
    """Whether the call of a layer, or of one in it, is not Keras's, and builds nothing."""
    parts = [p for p in keras_internals.all_layers(layer) if not isinstance(p, Quantizer)]
    return all(map(is_built, parts)) and not all(map(keras_internals.runs_keras, parts))
