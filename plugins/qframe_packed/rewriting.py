"""The rules of packed models: thresholds in place of scales, batch norm and activations.

Each rule rewrites one node. `fold_affine` rounds once instead of twice; the other rules
change no bit of a result.
"""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np

from qframe.deployment.graph.graph import Node
from qframe.deployment.graph.operations import (
    Activation,
    Affine,
    Conv2D,
    MaxPool,
    Operation,
    Pad,
    Quantize,
    Reshape,
    Round,
)
from qframe.deployment.graph.reference import run
from qframe.deployment.graph.rewriting import Draft, Rule, rewrite
from qframe.deployment.graph.thresholds import Domain, first_true
from qframe.deployment.graph.values import Value
from qframe_packed.graph import PackedGraph
from qframe_packed.lowering import FEW

# Functions that are monotone in float32 as well.
_MONOTONE = ("clip", "hard_tanh", "relu")
# A larger shift, multiplied, would cost the digits of its difference from the numbers.
_LARGEST_SHIFT = 2**6


def absorb_into_thresholds(draft: Draft, key: int, node: Node) -> bool:
    """Turn thresholds of ``f(x)`` into thresholds of x: for scales, batch norm, ReLU.

    More than a few stay common to all channels, as a table for each would be larger than
    what it replaces.
    """
    quantize = node.operation
    if not isinstance(quantize, Quantize):
        return False
    before = draft.producer(node.inputs[0], (Affine, Activation))
    if before is None or not _is_monotone(before.operation):
        return False
    few = len(quantize.thresholds) <= FEW
    if not few and not _is_common(quantize, before.operation):
        return False
    (source,) = before.inputs
    operation = compose(quantize, before.operation, draft.values[source])
    if not few and operation.thresholds.ndim > 1:
        return False
    draft.set_node(key, operation, source, name=node.name)
    return True


def _is_monotone(operation: Operation) -> bool:
    if isinstance(operation, Activation):
        # Below a negative threshold a ReLU is 0, and just above it negative.
        rises = operation.alpha >= 0 and operation.threshold >= 0
        return operation.function in _MONOTONE and rises
    return True


def _is_common(*operations: Operation) -> bool:
    """Return whether operations do the same to all channels."""
    thresholds = [op.thresholds[0] for op in operations if isinstance(op, Quantize)]
    names = ("direction", "scale", "shift")
    parts = [getattr(op, name, None) for op in operations for name in names]
    return not any(part is not None and np.ndim(part) for part in (*thresholds, *parts))


def compose(quantize: Quantize, before: Operation, value: Value) -> Quantize:
    """``quantize(before(x))`` as a quantization of x, equal for every x of its span."""
    channels, common = value.shape[-1], _is_common(quantize, before)
    shape = (len(quantize.thresholds), 1 if common else channels)
    domain = Domain.of(value.span)

    def level_of(x: Any) -> Any:
        with np.errstate(over="ignore"):
            levels = run(quantize, run(before, x))
        return (levels - quantize.low) // quantize.step

    ends = domain.numbers(np.array([[domain.low], [domain.high]]))
    low, high = level_of(np.broadcast_to(ends, (2, shape[1])))
    falls = high < low
    sign = np.where(falls, -1, 1).astype(np.int8)
    targets = np.arange(1, shape[0] + 1)[:, None]
    # The keys of negated numbers are the negated keys, so one domain has both.
    both = attrs.evolve(
        domain, low=min(domain.low, -domain.high), high=max(domain.high, -domain.low)
    )
    inside = domain.numbers(np.array([domain.low, domain.high]))

    def reached(x: Any) -> Any:
        return level_of(np.clip(x * sign.astype(x.dtype), *inside)) >= targets

    keys = first_true(reached, both, shape)
    # No number, or every number, reaches a threshold outside of the domain.
    thresholds = both.thresholds(keys)
    if common and not falls.any():
        return attrs.evolve(quantize, thresholds=thresholds[:, 0], direction=None)
    thresholds = np.ascontiguousarray(np.broadcast_to(thresholds, (shape[0], channels)))
    direction = np.broadcast_to(sign, (channels,)).copy() if falls.any() else None
    return attrs.evolve(quantize, thresholds=thresholds, direction=direction)


def quantize_first(draft: Draft, key: int, node: Node) -> bool:
    """Pool or reshape bits and not floats.

    A reshape needs the same thresholds for all channels. A threshold that is crossed
    downwards turns the maximum of a pool into the minimum.
    """
    quantize = node.operation
    before = draft.producer(node.inputs[0], (MaxPool, Reshape))
    if not isinstance(quantize, (Quantize, Round)) or before is None:
        return False
    mover, direction = before.operation, getattr(quantize, "direction", None)
    if isinstance(mover, MaxPool):
        fits = mover.direction is None
        mover = attrs.evolve(mover, direction=direction)
    else:
        common = isinstance(quantize, Round) or quantize.thresholds.ndim == 1
        fits = common and direction is None
    if not fits or not draft.has_one_reader(node.inputs[0]):
        return False
    bits = draft.add(quantize, *before.inputs, name=node.name)
    draft.set_node(key, mover, bits, name=before.name)
    return True


def fold_padding(draft: Draft, key: int, node: Node) -> bool:
    """Let a convolution pad its input, behind a quantizer, instead of a layer before it."""
    conv, source = node.operation, node.inputs[0]
    if not isinstance(conv, Conv2D) or not draft.has_one_reader(source):
        return False
    quantizer = draft.producer(source, (Quantize, Round))
    before = source if quantizer is None else quantizer.inputs[0]
    padding = draft.producer(before, Pad)
    if padding is None or not draft.has_one_reader(before):
        return False
    number = np.zeros(1, np.float32)
    if quantizer is not None:
        if not _is_common(quantizer.operation):
            return False
        number = run(quantizer.operation, number)
    pads: Any = tuple(map(sum, zip(conv.pads, padding.operation.pads, strict=True)))
    own = any(conv.pads) and conv.pad != number[0]
    most = (conv.reach[0],) * 2 + (conv.reach[1],) * 2
    if own or any(pad >= reach for pad, reach in zip(pads, most, strict=True)):
        return False
    (image,) = padding.inputs
    if quantizer is not None:
        image = draft.add(quantizer.operation, image, name=quantizer.name)
    conv = attrs.evolve(conv, pads=pads, pad=float(number[0]))
    draft.set_node(key, conv, image, name=node.name)
    return True


def drop_clamp(draft: Draft, key: int, node: Node) -> bool:
    """Leave out a clamp that a rounding repeats, as a ReLU before unsigned integers."""
    rounding, source = node.operation, node.inputs[0]
    before = draft.producer(source, Activation)
    if not isinstance(rounding, Round) or before is None:
        return False
    if not _is_clamp(before.operation) or not draft.has_one_reader(source):
        return False
    ends = run(rounding, run(before.operation, np.array([-np.inf, np.inf], np.float32)))
    if ends.tolist() != [rounding.low, rounding.high]:
        return False
    draft.set_node(key, rounding, *before.inputs, name=node.name)
    return True


def _is_clamp(operation: Activation) -> bool:
    """Return whether a function clips at two numbers, and does nothing else."""
    plain = operation.alpha == operation.threshold == 0
    return operation.function == "hard_tanh" or (operation.function == "relu" and plain)


def fold_affine(draft: Draft, key: int, node: Node) -> bool:
    """Merge two affine operations, such as the scales of a convolution and batch norm."""
    second, source = node.operation, node.inputs[0]
    before = draft.producer(source, Affine)
    if not isinstance(second, Affine) or before is None or not draft.has_one_reader(source):
        return False
    first, shift = before.operation, second.shift
    if first.shift is not None:
        scaled = first.shift.astype(np.float64)
        scaled = scaled if second.scale is None else scaled * second.scale
        if first.scale is None and np.abs(scaled).max() > _LARGEST_SHIFT:
            return False
        shift = scaled if shift is None else scaled + shift
    scales = [a.astype(np.float64) for a in (first.scale, second.scale) if a is not None]
    scale = np.multiply(*scales) if len(scales) == 2 else next(iter(scales), None)
    operation = Affine(scale=_float32(scale), shift=_float32(shift))
    draft.set_node(key, operation, *before.inputs, name=node.name)
    return True


def _float32(array: Any) -> Any:
    return None if array is None else np.asarray(array, np.float32)


RULES: tuple[Rule, ...] = (
    absorb_into_thresholds,
    quantize_first,
    fold_padding,
    drop_clamp,
    fold_affine,
)


def simplify(graph: PackedGraph, rules: tuple[Rule, ...] = RULES) -> PackedGraph:
    """The graph in fewer and cheaper operations."""
    return rewrite(graph, rules)
