"""The rewrites that integer targets share: fold batch norm, fuse, place biases.

Afterwards each node reads and returns integers, or `checks.require_grids` names the layer.
`read_integers` and `fold_batch_norm` may round differently in float32, and `place_bias`
rounds a bias to an integer. The other rules change no bit of a result.
"""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from qframe.deployment.graph.fused import PRODUCTS, Fused
from qframe.deployment.graph.graph import Graph, Node
from qframe.deployment.graph.kernels import Kernel, is_integer
from qframe.deployment.graph.operations import (
    Activation,
    Affine,
    AveragePool,
    Concatenate,
    Dequantize,
    GlobalPool,
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
from qframe.deployment.graph.values import is_one_positive
from qframe.errors import DataError

# Operations on floats that a target computes on integers once it knows all grids.
_ON_FLOATS = (
    *(Merge, GlobalPool, AveragePool, Activation, PReLU, Affine, Normalize, Resize),
)
# Operations that only choose, move or join numbers.
_MOVING = (*(MaxPool, GlobalPool, Reshape, Pad, Concatenate, Slice, Transpose, Repeat),)
# The largest bias in steps of a sum; the rest of int32 is for the products.
_LARGEST_BIAS = 2**30


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


def pad_integers(draft: Draft, key: int, node: Node) -> bool:
    """Pad integers and not their real numbers, if 0 is one of them."""
    before = draft.producer(node.inputs[0], Dequantize)
    if before is None or not isinstance(node.operation, Pad):
        return False
    try:
        node.operation.infer(draft.values[before.inputs[0]])
    except DataError:
        return False
    padded = draft.add(node.operation, *before.inputs, name=node.name)
    draft.set_node(key, before.operation, padded, name=node.name)
    return True


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
        fused.operation, kernel=_multiply(kernel, np.broadcast_to(scale, count))
    )
    bias = np.broadcast_to(np.asarray(bias, float), count)
    _set_fused(draft, key, before, operation=product, bias=bias)
    return True


def _multiply(kernel: Any, scale: NDArray[Any]) -> Any:
    """A kernel times a number for each output channel, with positive scales."""
    if not is_integer(kernel):
        return (kernel * _per_output(scale, kernel)).astype(kernel.dtype)
    scale = scale * kernel.scale
    sign = np.where(scale < 0, -1, 1)
    return Kernel(kernel.integers() * _per_output(sign, kernel), np.abs(scale))


def _per_output(array: NDArray[Any], kernel: Any) -> NDArray[Any]:
    """One number for each output channel, broadcastable to a kernel."""
    return array.reshape(-1, *(1,) * (len(kernel.shape) - 1))


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
    draft.replace(key, source)
    return True


def place_bias(draft: Draft, key: int, node: Node) -> bool:
    """Round the bias of a product of integers to int32, in steps of its sums.

    Where the bias does not fit int32, because batch normalization switched a channel off
    by a tiny scale, the scale is raised and the integers of the channel are rounded.
    """
    fused = node.operation
    if not isinstance(fused, Fused) or not fused.is_product or fused.scales[0] is None:
        return False
    if fused.bias is not None and fused.bias.dtype.kind == "i":
        return False
    product: Any = fused.operation
    count, x = product.kernel.shape[0], np.float64(fused.scales[0])
    bias = np.zeros(count) if fused.bias is None else fused.bias
    kernel = _multiply(product.kernel, np.ones(count))
    least = np.abs(bias) / (_LARGEST_BIAS * x)
    least[(least == 0) & (kernel.scale == 0)] = 1.0
    scale = np.maximum(kernel.scale, least).astype(np.float32)
    values = kernel.integers()
    if (kernel.scale < least).any():
        factor = np.where(kernel.scale < least, kernel.scale / scale, 1.0)
        values = np.rint(values * _per_output(factor, kernel)).astype(values.dtype)
    product = attrs.evolve(product, kernel=Kernel(values, scale))
    steps = _rounded(bias / (x * scale.astype(float)), fused)
    _set_fused(draft, key, node, operation=product, bias=steps.astype(np.int32))
    return True


def _rounded(bias: NDArray[Any], fused: Fused) -> NDArray[Any]:
    """A bias in steps of the sums, as an integer."""
    quantize = fused.quantize
    if quantize is None or fused.activation is not None or len(quantize.thresholds) > 1:
        return np.rint(bias)
    # Some backends flush subnormal numbers to 0.
    if not -1e-37 < quantize.thresholds[0] <= 0:
        return np.rint(bias)
    # An integer is at least -bias where it is at least -floor(bias): no sign changes. The
    # tolerance absorbs rounding errors of an integer bias and is too small for others.
    return np.floor(bias + np.clip(1e-6 * np.abs(bias), 1e-6, 0.25))


# For targets whose biases are floats.
FLOAT_BIAS_RULES: tuple[Rule, ...] = (
    *(merge_repeated, keep_integers, pad_integers, join_reshapes, scale_sums),
    *(read_integers, commute, fold_batch_norm, fuse_activation, fuse_quantizer),
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
