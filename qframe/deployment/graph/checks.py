"""The check of integer targets: all tensors between layers are integers."""

from __future__ import annotations

from qframe.deployment.graph.fused import PRODUCTS
from qframe.deployment.graph.graph import Graph
from qframe.deployment.graph.operations import Dequantize, Lookup, Quantize
from qframe.errors import ExportError


def first_float_layer(graph: Graph) -> str | None:
    """The path of the first layer that passes floats or sums to another; else None.

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
    for node in graph.nodes:
        for i in node.inputs:
            quantized = i < first and isinstance(node.operation, (Lookup, Quantize))
            if not returns[i] and not quantized:
                return node.name if i < first else graph.nodes[i - first].name
    outputs = (i for i in graph.outputs if i >= first and not returns[i])
    return next((graph.nodes[i - first].name for i in outputs), None)


def require_grids(graph: Graph, target: str) -> None:
    """Raise `ExportError` if floats pass between two layers, or are returned.

    Args:
        graph: the graph after `qframe.deployment.graph.fusing.fuse`.
        target: the name of the target, for the error.
    """
    path = first_float_layer(graph)
    if path is not None:
        raise ExportError(
            f"the target {target!r} takes integers between all layers, and those that "
            f"{path!r} returns or reads are float32. Give it an input_quantizer and an "
            "output_quantizer, or put a quantizer behind it. Nothing was written."
        )
