"""The steps of a chain, from operations."""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from qframe_packed import operations
from qframe_packed.compiled.chains import INTEGERS, MOST_UNEVEN, Code
from qframe_packed.compiled.memory import Memory, Slot, aligned

Array = NDArray[Any]


@attrs.frozen(eq=False)
class Link:
    """A step of a chain.

    Args:
        code: what it does.
        parts: arrays and slots, of which it takes the addresses, and integers.
    """

    code: Code
    parts: tuple[Any, ...] = ()


@attrs.frozen(eq=False)
class Chain:
    """What follows something, step by step; it is one part of a row of a program.

    Args:
        parts: the steps of each tensor that it computes: those that lead to its numbers,
            and then those that read them.
        at: of each tensor, its part.
        tensors: their indices, in order.
    """

    parts: list[list[Link]]
    at: dict[int, list[Link]]
    tensors: list[int]

    @classmethod
    def empty(cls) -> Chain:
        """A chain without any step."""
        return cls([], {}, [])

    @property
    def links(self) -> list[Link]:
        """All steps."""
        return [link for part in self.parts for link in part]

    def extend(self, tensor: int, *links: Link) -> None:
        """Let the numbers become those of another tensor."""
        self.at[tensor] = [*links]
        self.parts.append(self.at[tensor])
        self.tensors.append(tensor)

    def bound(self, memory: Memory) -> list[Array]:
        """Its arrays: the address and the number of its steps, and these."""
        rows = [row(link.code, link.parts, memory, INTEGERS) for link in self.links]
        integers = np.array(rows, np.int64).reshape(-1, INTEGERS)
        return [np.array([integers.ctypes.data, len(rows)], np.int64), integers]


def row(code: int, parts: tuple[Any, ...], memory: Memory, length: int) -> list[int]:
    """A code, and for each part an integer: a number, or an address."""
    found = [int(code), *(_integer(part, memory) for part in parts)]
    return found + [0] * (length - len(found))


def changes(operation: Any, width: int) -> list[Link] | None:
    """The steps for an operation on one tensor, in rows of `width`, if there are any."""
    match operation:
        case operations.Affine(scale=None, shift=None):
            # Integers as floats: in a chain they are that already.
            return []
        case operations.Affine(scale=scale, shift=shift):
            return [Link(Code.AFFINE, (_row(scale, width, 1), _row(shift, width)))]
        case operations.PReLU(alpha=alpha) if alpha.size == alpha.shape[-1]:
            return [Link(Code.PRELU, (_row(alpha.reshape(-1), width),))]
        case operations.Activation(function="relu", alpha=alpha, most=most, threshold=edge):
            ends = _row(edge, width), _row(np.inf if most is None else most, width)
            if alpha == 0:
                return [Link(Code.RELU, ends)]
            return [Link(Code.LEAKY_RELU, (*ends, _row(alpha, width)))]
        case operations.Activation(function="leaky_tanh", alpha=alpha):
            return [Link(Code.LEAKY_TANH, (_row(alpha, width),))]
        case operations.Activation(function="hard_tanh"):
            return [Link(Code.HARD_TANH)]
    return None


def levels(operation: operations.Quantize, channels: int, width: int) -> Link:
    """A quantizer that leaves floats."""
    numbers = np.array([operation.low, operation.step], np.float32)
    parts = (*_table(operation, channels, width), numbers)
    steepness = _steepness(parts[0][:, :channels], width)
    if steepness is None:
        return Link(Code.LEVELS, parts)
    return Link(Code.EVEN_LEVELS, (*parts, steepness))


def _steepness(thresholds: Array, width: int) -> Array | None:
    """The levels in 1.0, where thresholds are as good as evenly spaced."""
    if len(thresholds) == 1:
        return None
    with np.errstate(all="ignore"):
        distance = thresholds - thresholds[0]
        found = np.float32(len(thresholds) - 1) / distance[-1]
        uneven = np.abs(distance * found - np.arange(len(thresholds))[:, None])
    # NaN, where thresholds are not finite, is not even. Half of the room is for rounding.
    even = (uneven <= MOST_UNEVEN / 2).all() and (found > 0).all()
    return _row(found, width) if even and np.isfinite(found).all() else None


def planes(
    operation: operations.Quantize, channels: int, width: int, out: Slot, count: int
) -> Link:
    """A quantizer that writes so many planes of bits."""
    table = _table(operation, channels, width)
    return Link(Code.PLANES, (*table, out, count, -(-channels // 8)))


def merge(code: Code, other: Slot, channels: int) -> Link:
    """The numbers at hand with those of a tensor, by a code."""
    return Link(code, (other, 0, 0, 4 * channels))


def divide(divisor: float, width: int) -> Link:
    """The numbers at hand, divided."""
    return Link(Code.DIVIDE, (_row(divisor, width),))


def store(out: Slot) -> Link:
    """Write the numbers at hand."""
    return Link(Code.STORE, (out,))


def _table(operation: operations.Quantize, channels: int, width: int) -> tuple[Any, ...]:
    given = operation.thresholds.astype(np.float32)
    found = aligned((len(given), width), np.float32)
    # What is beyond the channels may be anything, infinity too, and gives a 0.
    found[:] = np.nan
    found[:, :channels] = given if given.ndim == 2 else given[:, None]
    return found, _row(operation.direction, width, 1), len(given)


def _row(numbers: Any, width: int, default: float = 0) -> Array:
    """One number, or one for each channel, in so many lanes."""
    array = np.asarray(default if numbers is None else numbers, np.float32)
    found = aligned((width,), np.float32)
    found[:] = default
    found[: array.size if array.size > 1 else width] = array
    return found


def _integer(part: Any, memory: Memory) -> int:
    if isinstance(part, Slot):
        return memory.address(part)
    if isinstance(part, Chain):
        return int(memory.kept(part.bound(memory))[0].ctypes.data)
    return int(part.ctypes.data) if isinstance(part, np.ndarray) else int(part)
