"""Interleaved codes: the 4 codes of a channel are one lane, for products with 4 weights.

The codes of 4 positions in a window become registers of sums in the order that `Emission`
names, since interleaving works in parts of 16 bytes.
"""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np
from llvmlite import ir
from numpy.typing import NDArray

from qframe_packed.compiled.dots import Pairs
from qframe_packed.compiled.memory import aligned
from qframe_packed.compiled.rounding import GROUP, LANES
from qframe_packed.compiled.tiles import CODES
from qframe_packed.compiled.vectors import joined, shuffled

Array = NDArray[Any]
_I16, _I32 = ir.IntType(16), ir.IntType(32)
SUMS = ir.VectorType(_I32, LANES)
# The kind of products, in registers that packs work on.
_KIND = attrs.evolve(CODES, lanes=LANES)
_IN_PAIRS = isinstance(_KIND, Pairs)
# A register of weights, and the registers that have 4 weights of each channel.
WEIGHTS = ir.VectorType(_I16, 2 * LANES) if _IN_PAIRS else SUMS
REGISTERS = 2 if _IN_PAIRS else 1
_PART = np.arange(GROUP).reshape(-1, 4, 4)
_ORDER = _PART.transpose(1, 0, 2).reshape(-1)


def in_order(numbers: Array) -> Array:
    """Numbers (channel, ...) in the order of sums: whole groups, then whole registers."""
    channels = len(numbers)
    room = -channels % LANES
    wide = np.pad(numbers, [(0, room)] + [(0, 0)] * (numbers.ndim - 1))
    many = channels // GROUP * GROUP
    groups = wide[:many].reshape(-1, GROUP, *numbers.shape[1:])[:, _ORDER]
    return np.concatenate([groups.reshape(-1, *numbers.shape[1:]), wide[many:]])


def panels(weights: Array) -> Array:
    """Weights (channel, set, 4) as the code reads them: (group, set, register, lane, 4)."""
    ordered, sets = in_order(weights), weights.shape[1]
    many = len(weights) // GROUP * GROUP
    parts = []
    for part, registers in ((ordered[:many], 4), (ordered[many:], 1)):
        laid = part.reshape(-1, registers, LANES, sets, 4).transpose(0, 3, 1, 2, 4)
        if _IN_PAIRS:
            # Those of the even positions, then those of the odd ones.
            laid = np.moveaxis(laid.reshape(*laid.shape[:-1], 2, 2), -1, -3)
        parts.append(laid.reshape(-1))
    flat = np.concatenate(parts).astype(np.int16 if _IN_PAIRS else np.int8)
    result = aligned(flat.shape, flat.dtype)
    result[:] = flat
    return result


def _unpacked(b: Any, x: Any, y: Any, size: int, high: bool) -> Any:
    """Elements of `size` bytes of x and y in turns, from a half of each 16 bytes."""
    count, half = x.type.count // size, 8 // size
    kind = ir.VectorType(ir.IntType(8 * size), count)
    firsts = range(half if high else 0, count, 2 * half)
    lanes = [first + i for first in firsts for i in range(half)]
    both = [place for lane in lanes for place in (lane, count + lane)]
    chosen = ir.Constant(ir.VectorType(_I32, count), both)
    pair = b.shuffle_vector(b.bitcast(x, kind), b.bitcast(y, kind), chosen)
    return b.bitcast(pair, x.type)


def interleaved(b: Any, rows: list[Any]) -> list[Any]:
    """Registers with the 4 codes of each channel side by side, from 4 rows of codes."""
    if rows[0].type.count == LANES:
        codes = joined(b, joined(b, *rows[:2]), joined(b, *rows[2:]))
        order = [row * LANES + lane for lane in range(LANES) for row in range(4)]
        return [shuffled(b, codes, order)]
    w, x, y, z = rows
    halves = (False, True)
    pairs = [(_unpacked(b, w, x, 1, half), _unpacked(b, y, z, 1, half)) for half in halves]
    return [_unpacked(b, p, q, 2, half) for p, q in pairs for half in halves]


def dot(b: Any, sums: Any, codes: Any, weights: list[Any]) -> Any:
    """Sums with the products of 4 codes and 4 weights of each lane."""
    factors = _KIND.codes(b, b.bitcast(codes, SUMS))
    return _KIND.add(b, sums, factors, weights if _IN_PAIRS else weights[0])


def in_channels(b: Any, sums: list[Any]) -> list[Any]:
    """Sums of a group in the order of channels."""
    if len(sums) == 1 or LANES == 4:
        return sums
    all_ = joined(b, joined(b, *sums[:2]), joined(b, *sums[2:]))
    places = np.argsort(_ORDER).reshape(4, LANES)
    return [shuffled(b, all_, part.tolist()) for part in places]
