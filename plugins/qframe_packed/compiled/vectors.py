"""Loops in LLVM's code over float32 channels: many at a time, then one at a time.

Numba asks before each loop whether what is read and what is written overlap, which takes
longer than a loop over the channels of a pixel; what is written as vectors needs no answer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from qframe_packed.compiled.processor import FLOATS

_I64, _F32 = ir.IntType(64), ir.FloatType()
# Rows have room for whole eights.
LANES = (16, 8) if FLOATS == 16 else (8,)


def integer(value: int) -> Any:
    """A constant."""
    return ir.Constant(_I64, value)


def load(b: Any, kind: Any, address: Any) -> Any:
    """The vector at an address."""
    return b.load(b.inttoptr(address, kind.as_pointer()), align=4)


def store(b: Any, value: Any, address: Any, align: int = 4) -> None:
    """Write a vector, or a number, to an address."""
    b.store(value, b.inttoptr(address, value.type.as_pointer()), align=align)


def shuffled(b: Any, vector: Any, lanes: list[int]) -> Any:
    """These lanes of a vector."""
    chosen = ir.Constant(ir.VectorType(ir.IntType(32), len(lanes)), lanes)
    return b.shuffle_vector(vector, ir.Constant(vector.type, ir.Undefined), chosen)


def splat(b: Any, value: Any, lanes: int) -> Any:
    """A number in each of so many lanes."""
    empty = ir.Constant(ir.VectorType(value.type, lanes), ir.Undefined)
    first = b.insert_element(empty, value, ir.Constant(ir.IntType(32), 0))
    return shuffled(b, first, [0] * lanes)


def loop(
    b: Any,
    first: Any,
    last: Any,
    step: int,
    carried: tuple[Any, ...],
    body: Callable[..., tuple[Any, ...]],
) -> list[Any]:
    """Emit a loop, and return what it carries after the last time.

    Args:
        b: where to emit.
        first: the index of the first time.
        last: where the index ends; it may end before it begins.
        step: how far the index goes each time.
        carried: what there is at the first time.
        body: emits one time, from the index and what is carried to what is carried then.
    """
    before = b.block
    asking, inside, after = (
        b.append_basic_block(name) for name in ("asking", "inside", "after")
    )
    b.branch(asking)
    b.position_at_end(asking)
    phis = [b.phi(value.type) for value in (first, *carried)]
    for phi, value in zip(phis, (first, *carried), strict=True):
        phi.add_incoming(value, before)
    b.cbranch(b.icmp_signed("<", phis[0], last), inside, after)
    b.position_at_end(inside)
    found = body(*phis)
    for phi, value in zip(phis, (b.add(phis[0], integer(step)), *found), strict=True):
        phi.add_incoming(value, b.block)
    b.branch(asking)
    b.position_at_end(after)
    return phis[1:]


def over_channels(
    b: Any,
    channels: Any,
    body: Callable[[Any, Any], None],
    lanes: tuple[int, ...] = (*LANES, 1),
) -> None:
    """Emit loops over so many channels.

    `body` emits what is done to some of them, from the type of their vector and the
    number of the first. `lanes` says how many these are, in descending powers of two;
    there are whole ones of the last.
    """
    first = integer(0)
    for count in lanes:
        kind = ir.VectorType(_F32, count)
        last = channels if count == lanes[-1] else b.and_(channels, integer(-count))

        def some(index: Any, kind: Any = kind) -> tuple[Any, ...]:
            body(kind, index)
            return ()

        loop(b, first, last, count, (), some)
        first = last


@intrinsic
def copy(typing: Any, to: Any, source: Any, channels: Any) -> Any:
    """Copy so many floats, from an address to an address."""

    def codegen(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
        to, source, channels = arguments

        def body(kind: Any, index: Any) -> None:
            offset = b.mul(index, integer(4))
            store(b, load(b, kind, b.add(source, offset)), b.add(to, offset))

        over_channels(b, channels, body)
        return context.get_dummy_value()

    return types.void(*[types.intp] * 3), codegen
