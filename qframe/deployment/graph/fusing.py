"""The rewrites that integer targets share: fold batch norm, fuse, place biases.

Afterwards each node reads and returns integers, or `checks.require_grids` names the layer.
`read_integers` and `fold_batch_norm` may round differently in float32, and `place_bias`
rounds a bias to an integer. The other rules change no bit of a result.
"""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np

from qframe.deployment.graph.biases import place_bias
from qframe.deployment.graph.fused import PRODUCTS, Fused
from qframe.deployment.graph.graph import Graph, Node
from qframe.deployment.graph.kernels import is_integer, multiplied
from qframe.deployment.graph.operations import (
    Activation,
    Affine,
    AveragePool,
    Concatenate,
    Dequantize,
    GlobalPool,
    Matmul,
    MaxPool,
    Merge,
    Normalize,
    Operation,
    Pad,
    PReLU,
    Quantize,
    Repeat,
    Reshape,
    Resize,
    Slice,
    Transpose,
)
from qframe.deployment.graph.reference import run
from qframe.deployment.graph.rewriting import Draft, Rule, rewrite
from qframe.deployment.graph.rows import quantize_rows
from qframe.deployment.graph.values import is_one_positive
from qframe.errors import DataError

# Operations on floats that a target computes on integers once it knows all grids.
_ON_FLOATS = (
    *(Merge, GlobalPool, AveragePool, Activation, PReLU, Affine, Normalize, Resize),
    Matmul,
)
# Operations that only choose, move or join numbers.
_MOVING = (*(MaxPool, GlobalPool, Reshape, Pad, Concatenate, Slice, Transpose, Repeat),)


def scale_sums(draft: Draft, key: int, node: Node) -> bool:
    """Fuse the sums of a product with their scale, so that it returns floats."""
    product = draft.producer(node.inputs[0], PRODUCTS)
    if not isinstance(node.operation, Dequantize) or product is None:
        return False
    if not draft.has_one_reader(node.inputs[0]):
        return False
    grid: Any = draft.values[product.inputs[0]].grid
    fused = Fused(product.operation, (grid.scale,))
    draft.set_node(key, fused, *product.inputs, name=product.name)
    return True


def read_integers(draft: Draft, key: int, node: Node) -> bool:
    """Let a product read integers and not their real numbers."""
    before = draft.producer(node.inputs[0], Dequantize)
    product: Any = node.operation
    if before is None or not isinstance(product, PRODUCTS):
        return False
    scale = before.operation.scale
    pad = getattr(product, "pad", 0.0) / scale
    on_grid = is_one_positive(scale) and abs(pad - np.rint(pad)) <= 1e-5
    if not on_grid or not is_integer(product.kernel):
        return False
    steps: Any = {"pad": float(np.rint(pad))} if pad else {}
    fused = Fused(attrs.evolve(node.operation, **steps), (scale,))
    draft.set_node(key, fused, *before.inputs, name=node.name)
    return True


def move_integers(draft: Draft, key: int, node: Node) -> bool:
    """Choose, move or pad integers of a quantizer and not their real numbers."""
    if not isinstance(node.operation, _MOVING) or len(node.inputs) > 1:
        return False
    before = draft.producer(node.inputs[0], Dequantize)
    if before is None or not is_one_positive(before.operation.scale):
        return False
    if _is_sum(draft, before.inputs[0]):
        return False
    try:
        node.operation.infer(draft.values[before.inputs[0]])
    except DataError:  # a mean, or zeros that are not among the integers
        return False
    moved = draft.add(node.operation, *before.inputs, name=node.name)
    draft.set_node(key, before.operation, moved, name=node.name)
    return True


def _is_sum(draft: Draft, key: int) -> bool:
    """Return whether integers are sums of products, which are scaled before they move."""
    mover = draft.producer(key, _MOVING)
    if mover is not None:
        return any(_is_sum(draft, i) for i in mover.inputs)
    return draft.producer(key, PRODUCTS) is not None


def join_affines(draft: Draft, key: int, node: Node) -> bool:
    """Merge two affine functions of the integers of a quantizer, as of normalization."""
    before = draft.producer(node.inputs[0], Affine)
    if not isinstance(node.operation, Affine) or before is None:
        return False
    reader = draft.producer(before.inputs[0], Dequantize)
    if reader is None or _is_sum(draft, reader.inputs[0]):
        return False
    if not draft.has_one_reader(node.inputs[0]):
        return False
    first, second = before.operation, node.operation
    (a, b), (c, d) = (
        (_or(part.scale, 1.0), _or(part.shift, 0.0)) for part in (first, second)
    )
    joined = Affine((a * c).astype(np.float32), (b * c + d).astype(np.float32))
    draft.set_node(key, joined, *before.inputs, name=before.name)
    return True


def _or(array: Any, default: float) -> Any:
    return np.asarray(default if array is None else array, float)


def join_reshapes(draft: Draft, key: int, node: Node) -> bool:
    """Merge consecutive reshapes, and remove one that keeps the shape."""
    if not isinstance(node.operation, Reshape):
        return False
    (source,) = node.inputs
    if draft.values[source].shape == node.operation.shape:
        draft.replace(key, source)
        return True
    before = draft.producer(source, Reshape)
    if before is None:
        return False
    draft.set_node(key, node.operation, *before.inputs, name=node.name)
    return True


def commute(draft: Draft, key: int, node: Node) -> bool:
    """Choose, move or join numbers after they are scaled, activated and quantized."""
    mover = draft.producer(node.inputs[0], _MOVING)
    if mover is None or not _commutes(draft, node.operation, mover):
        return False
    if not draft.has_one_reader(node.inputs[0]):
        return False
    inputs = [draft.add(node.operation, i, name=node.name) for i in mover.inputs]
    draft.set_node(key, mover.operation, *inputs, name=mover.name)
    return True


def _commutes(draft: Draft, operation: Operation, mover: Node) -> bool:
    """Return whether an elementwise operation gives the same result before a mover."""
    match operation, mover.operation:
        case _, GlobalPool(function="average"):
            return False
        # Sums become floats; the result of a quantizer remains integers.
        case Dequantize(), MaxPool() | GlobalPool() | Reshape() | Slice():
            return draft.producer(mover.inputs[0], PRODUCTS) is not None
        case Dequantize(), Transpose() | Repeat():
            return draft.producer(mover.inputs[0], PRODUCTS) is not None
        case Affine(scale=scale), MaxPool() | GlobalPool():
            return scale is None or bool((scale >= 0).all())
        # The channels are those of the source.
        case Affine(), Reshape(shape=shape):
            return draft.values[mover.inputs[0]].shape[-1:] == shape[-1:]
        case Activation(function="relu"), Reshape() | Concatenate() | Slice():
            return True
        case Activation(function="relu"), Transpose() | Repeat():
            return True
        case Activation(function="relu"), MaxPool() | GlobalPool():
            relu: Any = operation
            return bool(relu.alpha >= 0 and relu.threshold >= 0)
        # A direction turns some channels around, so that their largest number is another.
        case Quantize(direction=None), MaxPool() | GlobalPool():
            return True
        # The channels of per-channel thresholds are no longer those of the source.
        case Quantize(direction=None, thresholds=thresholds), _ if thresholds.ndim == 1:
            if isinstance(mover.operation, Pad):
                return bool(run(operation, np.zeros(1, np.float32)) == 0)
            return True
    return False


def fold_batch_norm(draft: Draft, key: int, node: Node) -> bool:
    """Multiply the scales of a kernel by those of batch normalization.

    A negative scale negates the integers of its channel, so that all scales are positive.
    """
    if not isinstance(node.operation, Affine):
        return False
    before = _open_fused(draft, node.inputs[0])
    if before is None or not before.operation.is_product:
        return False
    fused = before.operation
    if fused.activation is not None:
        return False
    scale = 1.0 if node.operation.scale is None else node.operation.scale.astype(float)
    bias = (0.0 if fused.bias is None else fused.bias) * scale
    if node.operation.shift is not None:
        bias = bias + node.operation.shift
    kernel = fused.operation.kernel
    count = kernel.shape[0]
    product = attrs.evolve(
        fused.operation, kernel=multiplied(kernel, np.broadcast_to(scale, count))
    )
    bias = np.broadcast_to(np.asarray(bias, float), count)
    _set_fused(draft, key, before, operation=product, bias=bias)
    return True


def scale_matmul(draft: Draft, key: int, node: Node) -> bool:
    """Multiply products of two tensors by the number that follows them, or a factor."""
    if isinstance(node.operation, Affine) and _number_of(node.operation) is not None:
        product = draft.producer(node.inputs[0], Matmul)
        if product is None or not draft.has_one_reader(node.inputs[0]):
            return False
        operation, inputs, affine = product.operation, product.inputs, node.operation
    elif isinstance(node.operation, Matmul):
        factors = [draft.producer(i, Affine) for i in node.inputs]
        found = [f and _number_of(f.operation) is not None for f in factors]
        if not any(found):
            return False
        at = found.index(True)
        inputs = tuple(
            factors[at].inputs[0] if i == at else index
            for i, index in enumerate(node.inputs)
        )
        if draft.values[inputs[at]].grid is not None:
            return False
        operation, affine, product = node.operation, factors[at].operation, node
    else:
        return False
    scale = operation.scale * _number_of(affine)
    draft.set_node(key, Matmul(scale=scale), *inputs, name=product.name)
    return True


def _number_of(operation: Affine) -> float | None:
    """The number that an operation multiplies by, if it does nothing else."""
    if operation.shift is not None or operation.scale is None or operation.scale.size > 1:
        return None
    return float(operation.scale.reshape(()))


def fuse_activation(draft: Draft, key: int, node: Node) -> bool:
    """Compute a ReLU with the operation before it."""
    if not isinstance(node.operation, Activation) or node.operation.function != "relu":
        return False
    before = _open_fused(draft, node.inputs[0])
    if before is None or before.operation.activation is not None:
        return False
    if isinstance(before.operation.operation, (Activation, PReLU)):
        return False
    _set_fused(draft, key, before, activation=node.operation)
    return True


def fuse_quantizer(draft: Draft, key: int, node: Node) -> bool:
    """Quantize with the operation before it."""
    if not isinstance(node.operation, Quantize):
        return False
    before = _open_fused(draft, node.inputs[0])
    if before is None:
        return False
    _set_fused(draft, key, before, quantize=node.operation)
    return True


def _open_fused(draft: Draft, key: int) -> Any:
    """The node that returns floats to its only reader, as a fused node; else None."""
    node = draft.nodes.get(key)
    if node is None or not draft.has_one_reader(key):
        return None
    operation, inputs = node.operation, node.inputs
    if isinstance(operation, Fused):
        return None if operation.quantize is not None else node
    if isinstance(operation, Dequantize):
        # The reader is a second quantizer, which changes the grid.
        return attrs.evolve(node, operation=Fused(Affine(), (operation.scale,)))
    if isinstance(operation, PRODUCTS) and draft.values[inputs[0]].grid is None:
        return attrs.evolve(node, operation=Fused(operation, (None,)))
    if not isinstance(operation, _ON_FLOATS) or draft.values[key].grid is not None:
        return None
    producers = [draft.producer(i, Dequantize) for i in inputs]
    scales = tuple(None if p is None else p.operation.scale for p in producers)
    pairs = zip(inputs, producers, strict=True)
    inputs = tuple(i if p is None else p.inputs[0] for i, p in pairs)
    return attrs.evolve(node, operation=Fused(operation, scales), inputs=inputs)


def _set_fused(draft: Draft, key: int, before: Node, **changes: Any) -> None:
    fused = attrs.evolve(before.operation, **changes)
    draft.set_node(key, fused, *before.inputs, name=before.name)


def merge_repeated(draft: Draft, key: int, node: Node) -> bool:
    """Compute a quantizer, or the scale of sums, once for several readers."""
    sums = isinstance(node.operation, Dequantize) and draft.producer(
        node.inputs[0], PRODUCTS
    )
    if not sums and not isinstance(node.operation, Quantize):
        return False
    for other, earlier in draft.nodes.items():
        if other >= key or earlier.inputs != node.inputs:
            continue
        both = isinstance(earlier.operation, Dequantize) and sums
        if both or _equal(earlier.operation, node.operation):
            draft.replace(key, other)
            return True
    return False


def _equal(operation: Operation, other: Operation) -> bool:
    """Return whether two operations are quantizers to the same integers of a grid."""
    if not isinstance(operation, Quantize) or not isinstance(other, Quantize):
        return False
    if operation is other:
        return True
    arrays = (
        (operation.thresholds, other.thresholds),
        (operation.direction, other.direction),
    )
    equal = all(np.array_equal(a, b) for a, b in arrays)
    return equal and operation.grid == other.grid


def keep_integers(draft: Draft, key: int, node: Node) -> bool:
    """Remove a quantizer that returns the integers that it reads."""
    before = draft.producer(node.inputs[0], Dequantize)
    if not isinstance(node.operation, Quantize) or before is None:
        return False
    (source,) = before.inputs
    grid: Any = draft.values[source].grid
    same = np.array_equal(node.operation.scale, before.operation.scale)
    if not same or grid.high - grid.low >= 2**16:
        return False
    span = grid.span
    integers = np.arange(span.low, span.high + 1, span.step, dtype=np.int32)
    if (run(node.operation, run(before.operation, integers)) != integers).any():
        return False
    # What is joined has one span, and the quantizer's may be wider than that of the source.
    result: Any = draft.values[key].grid
    if result.span != span and draft.leads_to(key, Concatenate, _MOVING):
        return False
    draft.replace(key, source)
    return True


# For targets whose biases are floats.
FLOAT_BIAS_RULES: tuple[Rule, ...] = (
    *(
        merge_repeated,
        keep_integers,
        quantize_rows,
        move_integers,
        join_reshapes,
        join_affines,
    ),
    *(scale_sums,),
    *(read_integers, commute, scale_matmul, fold_batch_norm, fuse_activation),
    fuse_quantizer,
)
RULES: tuple[Rule, ...] = (*FLOAT_BIAS_RULES, place_bias)


def fuse(graph: Graph, rules: tuple[Rule, ...] = RULES) -> Graph:
    """The graph with batch norm in its kernels, int32 biases and fused epilogues.

    Example:
        >>> import numpy as np
        >>> from qframe.deployment.graph import operations as op
        >>> from qframe.deployment.graph.fusing import fuse
        >>> from qframe.deployment.graph.graph import Graph, Node
        >>> from qframe.deployment.graph.kernels import Kernel
        >>> sign = op.Quantize(thresholds=np.zeros(1, np.float32))
        >>> dense = op.Dense(kernel=Kernel(np.array([[1, -1], [1, 1]])))
        >>> norm = op.Affine(scale=np.float32([0.5, -2]), shift=np.float32([0.25, 1]))
        >>> steps = sign, dense, op.Dequantize(), norm, sign
        >>> nodes = tuple(Node(step, (i,)) for i, step in enumerate(steps))
        >>> graph = fuse(Graph(((2,),), nodes, (5,)))
        >>> [node.operation.name for node in graph.nodes]
        ['quantize', 'fused']
        >>> product = graph.nodes[1].operation
        >>> product.operation.kernel.integers().tolist(), product.scale.tolist()
        ([[1, -1], [-1, -1]], [0.5, 2.0])
    """
    return rewrite(graph, rules)
