"""The check of integer targets: all tensors between layers are integers."""

from __future__ import annotations

from qframe.deployment.graph.fused import PRODUCTS, unfused
from qframe.deployment.graph.graph import Graph
from qframe.deployment.graph.operations import Dequantize, Lookup, Quantize, Recurrence
from qframe.errors import ExportError


def float_layers(graph: Graph) -> list[str]:
    """The paths of the layers that pass floats or sums to another, in order.

    A quantizer, or the lookup of an index, reads the float inputs of the model, and its
    float outputs are integers times their scale. A layer that reads an input without a
    quantizer is returned itself.
    """
    values, first = graph.values(), len(graph.inputs)
    returns = [value.grid is not None for value in values]
    for key, node in enumerate(graph.nodes, first):
        returns[key] &= not isinstance(node.operation, PRODUCTS)
        if key in graph.outputs:
            returns[key] |= isinstance(node.operation, Dequantize)
    paths = []
    for node in graph.nodes:
        for i in node.inputs:
            quantized = i < first and isinstance(
                unfused(node.operation), (Lookup, Quantize)
            )
            if not returns[i] and not quantized:
                paths.append(node.name if i < first else graph.nodes[i - first].name)
    outputs = (i for i in graph.outputs if i >= first and not returns[i])
    paths += [graph.nodes[i - first].name for i in outputs]
    return list(dict.fromkeys(paths))


def require_grids(graph: Graph, target: str, cure: str = "") -> None:
    """Raise `ExportError` if floats pass between two layers, or are returned.

    Args:
        graph: the graph after `qframe.deployment.graph.fusing.fuse`.
        target: the name of the target, for the error.
        cure: another cure that the target offers, such as an option. Default none.
    """
    paths = float_layers(graph)
    if not paths:
        return
    names = ", ".join(map(repr, paths))
    advice = ""
    loops = [path for path in recurrent_layers(graph) if path in paths]
    if len(loops) < len(paths):
        advice += (
            f" Give each{' other one' if loops else ''} an input_quantizer and an "
            f"output_quantizer, or put a quantizer behind it{cure and f', or {cure}'}."
        )
    if loops:
        advice += (
            f" A recurrent layer computes float32 with any quantizers "
            f"({', '.join(map(repr, loops))}): {cure or 'export what is before it'}."
        )
    raise ExportError(
        f"the target {target!r} takes integers between all layers, and these return or "
        f"read float32: {names}.{advice} Nothing was written."
    )


def recurrent_layers(graph: Graph) -> list[str]:
    """The paths of the layers that repeat a cell, in order."""
    loops = (node for node in graph.nodes if isinstance(node.operation, Recurrence))
    return list(dict.fromkeys(node.name for node in loops))
