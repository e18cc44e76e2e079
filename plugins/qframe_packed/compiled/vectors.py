"""Loops over float32 channels in LLVM code: several at a time, then one at a time.

Before each loop, numba's code compares the memory that is read with the memory that is
written. That takes longer than a loop over the channels of a pixel, and vectors that are
written here need no comparison.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from qframe_packed.compiled.processor import FLOATS

_I64, _F32 = ir.IntType(64), ir.FloatType()
# The floats of a pixel are padded to a multiple of 8.
LANES = (16, 8) if FLOATS == 16 else (8,)
LONGEST = LANES[0]


def padded(channels: int) -> int:
    """Floats of a pixel that whole vectors read and write."""
    return -(-channels // 8) * 8


class _Fields:
    """The fields of a record. Each is read by the code that is emitted next."""

    def __init__(self, context: Any, b: Any, kind: Any, record: Any) -> None:
        self._context, self._b, self._kind, self._record = context, b, kind, record

    def __getattr__(self, name: str) -> Any:
        read = self._context.get_getattr(self._kind, name)
        value = read(self._context, self._b, self._kind, self._record, name)
        kind = self._kind.typeof(name)
        if isinstance(kind, types.Record):
            return _Fields(self._context, self._b, kind, value)
        return value


def emitter(emit: Callable[..., None]) -> Any:
    """Make a function that emits LLVM code an intrinsic.

    Its first argument is the builder. The others are int64s, floats and records.
    """

    def define(typing: Any, *arguments: Any) -> Any:
        kept = types.Float, types.Record
        kinds = [kind if isinstance(kind, kept) else types.intp for kind in arguments]

        def codegen(context: Any, b: Any, signature: Any, values: Any) -> Any:
            def argument(kind: Any, value: Any) -> Any:
                record = isinstance(kind, types.Record)
                return _Fields(context, b, kind, value) if record else value

            emit(b, *map(argument, kinds, values))
            return context.get_dummy_value()

        return types.void(*kinds), codegen

    for name in ("__module__", "__name__", "__qualname__"):
        setattr(define, name, getattr(emit, name))
    # Numba takes the number of arguments from the signature.
    define.__signature__ = inspect.signature(emit)  # type: ignore[attr-defined]
    return intrinsic(define)


def integer(value: int) -> Any:
    """An int64 constant."""
    return ir.Constant(_I64, value)


def at(b: Any, address: Any, offset: int, kind: Any) -> Any:
    """A pointer to a value at an address."""
    return b.inttoptr(
        b.add(address, integer(offset)) if offset else address, kind.as_pointer()
    )


def declared(b: Any, name: str, result: Any, arguments: list[Any]) -> Any:
    """A function of LLVM."""
    known = b.module.globals.get(name)
    return known or ir.Function(b.module, ir.FunctionType(result, arguments), name)


def load(b: Any, kind: Any, address: Any, align: int = 4) -> Any:
    """Read a vector from an address."""
    return b.load(b.inttoptr(address, kind.as_pointer()), align=align)


def store(b: Any, value: Any, address: Any, align: int = 4) -> None:
    """Write a vector, or a number, to an address."""
    b.store(value, b.inttoptr(address, value.type.as_pointer()), align=align)


def call(b: Any, address: Any, *arguments: Any) -> None:
    """Emit a call of the function at an address."""
    kind = ir.FunctionType(ir.VoidType(), [argument.type for argument in arguments])
    b.call(b.inttoptr(address, kind.as_pointer()), arguments)


def shuffled(b: Any, vector: Any, lanes: list[int]) -> Any:
    """These lanes of a vector."""
    chosen = ir.Constant(ir.VectorType(ir.IntType(32), len(lanes)), lanes)
    return b.shuffle_vector(vector, ir.Constant(vector.type, ir.Undefined), chosen)


def joined(b: Any, first: Any, second: Any) -> Any:
    """A vector with the elements of two."""
    lanes = [*range(2 * first.type.count)]
    chosen = ir.Constant(ir.VectorType(ir.IntType(32), len(lanes)), lanes)
    return b.shuffle_vector(first, second, chosen)


def splat(b: Any, value: Any, lanes: int) -> Any:
    """A vector with the same number in each lane."""
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
    """Emit a loop, and return what it carries after the last iteration.

    Args:
        b: the builder.
        first: index of the first iteration.
        last: end of the indices; without any iteration it is `first` or less.
        step: distance between two indices.
        carried: values before the first iteration.
        body: emits an iteration: from its index and the values before it to those after.
    """

    def iteration(index: Any, *values: Any) -> tuple[Any, ...]:
        results = body(index, *values)
        return b.add(index, integer(step)), *results

    return loop_until(b, first, last, carried, iteration)


def loop_until(
    b: Any,
    first: Any,
    last: Any,
    carried: tuple[Any, ...],
    body: Callable[..., tuple[Any, ...]],
) -> list[Any]:
    """Emit a `loop` whose body also returns the next index, before the values."""
    before = b.block
    condition, inside, after = (
        b.append_basic_block(name) for name in ("condition", "inside", "after")
    )
    b.branch(condition)
    b.position_at_end(condition)
    phis = [b.phi(value.type) for value in (first, *carried)]
    for phi, value in zip(phis, (first, *carried), strict=True):
        phi.add_incoming(value, before)
    b.cbranch(b.icmp_signed("<", phis[0], last), inside, after)
    b.position_at_end(inside)
    for phi, value in zip(phis, body(*phis), strict=True):
        phi.add_incoming(value, b.block)
    b.branch(condition)
    b.position_at_end(after)
    return phis[1:]


def either(
    b: Any,
    condition: Any,
    yes: Callable[[], list[Any]],
    no: Callable[[], list[Any]],
) -> list[Any]:
    """Emit two ways to compute values, of which one runs."""
    values, blocks = [], []
    with b.if_else(condition) as branches:
        for branch, way in zip(branches, (yes, no), strict=True):
            with branch:
                values.append(way())
                blocks.append(b.block)
    results = []
    for pair in zip(*values, strict=True):
        phi = b.phi(pair[0].type)
        for value, block in zip(pair, blocks, strict=True):
            phi.add_incoming(value, block)
        results.append(phi)
    return results


def over_rows(
    b: Any,
    count: Any,
    starts: tuple[Any, ...],
    strides: tuple[Any, ...],
    body: Callable[..., None],
) -> None:
    """Emit a loop over rows; `body` gets the addresses, which advance by the strides."""

    def row(index: Any, *addresses: Any) -> tuple[Any, ...]:
        body(*addresses)
        return tuple(b.add(a, s) for a, s in zip(addresses, strides, strict=True))

    loop(b, integer(0), count, 1, starts, row)


def over_channels(
    b: Any,
    channels: Any,
    body: Callable[[Any, Any], None],
    lanes: tuple[int, ...] = (*LANES, 1),
) -> None:
    """Emit loops over channels.

    Args:
        b: the builder.
        channels: their number, a multiple of the last of `lanes`.
        body: emits the code for a vector, from its type and its first channel.
        lanes: the lengths of vectors, descending powers of two.
    """
    first = integer(0)
    for count in lanes:
        kind = ir.VectorType(_F32, count)
        last = channels if count == lanes[-1] else b.and_(channels, integer(-count))

        def vector(index: Any, kind: Any = kind) -> tuple[Any, ...]:
            body(kind, index)
            return ()

        loop(b, first, last, count, (), vector)
        first = last


def whole_vectors(b: Any, channels: Any) -> Any:
    """Emit `padded`."""
    return b.and_(b.add(channels, integer(7)), integer(-8))


@emitter
def copy(b: Any, out: Any, source: Any, channels: Any) -> None:
    """Copy floats from an address to an address."""

    def body(kind: Any, index: Any) -> None:
        offset = b.mul(index, integer(4))
        store(b, load(b, kind, b.add(source, offset)), b.add(out, offset))

    over_channels(b, channels, body)


def move(b: Any, out: Any, source: Any, size: Any) -> None:
    """Copy bytes from an address to an address."""
    first = integer(0)
    for count in (64, 16, 4, 1):
        kind = ir.VectorType(ir.IntType(8), count)
        last = b.and_(size, integer(-count))

        def part(index: Any, kind: Any = kind) -> tuple[Any, ...]:
            store(b, load(b, kind, b.add(source, index), 1), b.add(out, index), 1)
            return ()

        loop(b, first, last, count, (), part)
        first = last


copy_bytes = emitter(move)
