"""The rules of packed models: thresholds in place of scales, batch norm and activations.

Each rule looks at one node. `absorb`, `pool_after` and `reshape_after` change no result by
a single bit; `fold` rounds once where there were two roundings.
"""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np

from qframe.deployment.graph.graph import Node
from qframe.deployment.graph.operations import (
    Activation,
    Affine,
    MaxPool,
    Operation,
    Quantize,
    Reshape,
)
from qframe.deployment.graph.reference import run
from qframe.deployment.graph.rewriting import Draft, Rule, rewritten
from qframe.deployment.graph.thresholds import Domain, first
from qframe.deployment.graph.values import Value
from qframe_packed.graph import Graph

# Functions that only rise, or only fall, in float32 as well.
_MONOTONE = ("hard_tanh", "relu")


def absorb(draft: Draft, key: int, node: Node) -> bool:
    """A threshold of ``f(x)`` is one of x: of batch norm, of scales, of a ReLU."""
    if not isinstance(node.operation, Quantize):
        return False
    before = draft.maker(node.inputs[0], (Affine, Activation))
    if before is None or not _is_monotone(before.operation):
        return False
    (source,) = before.inputs
    operation = composed(node.operation, before.operation, draft.values[source])
    draft.put(key, operation, source, name=node.name)
    return True


def _is_monotone(operation: Operation) -> bool:
    if isinstance(operation, Activation):
        # Below a negative threshold a ReLU is 0, and above it is negative.
        rises = operation.alpha >= 0 and operation.threshold >= 0
        return operation.function in _MONOTONE and rises
    return True


def composed(quantize: Quantize, before: Operation, value: Value) -> Quantize:
    """``quantize(before(x))`` as a quantization of x, equal for every x of its span."""
    channels = value.shape[-1]
    parts: list[Any] = [quantize.thresholds[0], quantize.direction]
    parts += [getattr(before, "scale", None), getattr(before, "shift", None)]
    common = not any(part is not None and np.ndim(part) for part in parts)
    shape = (len(quantize.thresholds), 1 if common else channels)
    domain = Domain.of(value.span)

    def steps(x: Any) -> Any:
        with np.errstate(over="ignore"):
            levels = run(quantize, run(before, x))
        return (levels - quantize.low) // quantize.step

    ends = domain.numbers(np.array([[domain.low], [domain.high]]))
    low, high = steps(np.broadcast_to(ends, (2, shape[1])))
    falls = high < low
    sign = np.where(falls, -1, 1).astype(np.int8)
    wanted = np.arange(1, shape[0] + 1)[:, None]
    # The keys of negated numbers are the negated keys, so one domain has both.
    both = attrs.evolve(
        domain,
        low=min(domain.low, -domain.high),
        high=max(domain.high, -domain.low),
    )
    inside = domain.numbers(np.array([domain.low, domain.high]))

    def reached(x: Any) -> Any:
        return steps(np.clip(x * sign.astype(x.dtype), *inside)) >= wanted

    keys = first(reached, both, shape)
    # A threshold outside of the domain is reached by nothing, or by all.
    thresholds = both.thresholds(keys)
    if common and not falls.any():
        return attrs.evolve(quantize, thresholds=thresholds[:, 0], direction=None)
    thresholds = np.ascontiguousarray(np.broadcast_to(thresholds, (shape[0], channels)))
    direction = np.broadcast_to(sign, (channels,)).copy() if falls.any() else None
    return attrs.evolve(quantize, thresholds=thresholds, direction=direction)


def pool_after(draft: Draft, key: int, node: Node) -> bool:
    """Pool bits and not floats: where a threshold is crossed downwards, their minimum."""
    if not isinstance(node.operation, Quantize):
        return False
    pool = draft.maker(node.inputs[0], MaxPool)
    if pool is None or pool.operation.direction is not None:
        return False
    if not draft.alone(node.inputs[0]):
        return False
    bits = draft.add(node.operation, *pool.inputs, name=node.name)
    direction = node.operation.direction
    draft.put(key, attrs.evolve(pool.operation, direction=direction), bits, name=pool.name)
    return True


def reshape_after(draft: Draft, key: int, node: Node) -> bool:
    """Reshape bits and not floats, where all channels have the same thresholds."""
    if not isinstance(node.operation, Quantize) or node.operation.thresholds.ndim > 1:
        return False
    reshape = draft.maker(node.inputs[0], Reshape)
    if reshape is None or node.operation.direction is not None:
        return False
    if not draft.alone(node.inputs[0]):
        return False
    bits = draft.add(node.operation, *reshape.inputs, name=node.name)
    draft.put(key, reshape.operation, bits, name=reshape.name)
    return True


def fold(draft: Draft, key: int, node: Node) -> bool:
    """Two affine operations are one: the scales of a convolution, and batch norm."""
    after = node.operation
    before = draft.maker(node.inputs[0], Affine)
    if not isinstance(after, Affine) or before is None or not draft.alone(node.inputs[0]):
        return False
    first_, shift = before.operation, after.shift
    if first_.shift is not None:
        moved = first_.shift.astype(np.float64)
        moved = moved if after.scale is None else moved * after.scale
        shift = moved if shift is None else moved + shift
    scales = [a.astype(np.float64) for a in (first_.scale, after.scale) if a is not None]
    scale = np.multiply(*scales) if len(scales) == 2 else next(iter(scales), None)
    operation = Affine(scale=_single(scale), shift=_single(shift))
    draft.put(key, operation, *before.inputs, name=node.name)
    return True


def _single(array: Any) -> Any:
    return None if array is None else np.asarray(array, np.float32)


RULES: tuple[Rule, ...] = (absorb, pool_after, reshape_after, fold)


def lowered(graph: Graph, rules: tuple[Rule, ...] = RULES) -> Graph:
    """The graph in fewer and cheaper operations."""
    return rewritten(graph, rules)
