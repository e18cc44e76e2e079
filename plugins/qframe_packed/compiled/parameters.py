"""Declaration of kernels: parameters that compiled code reads by field, and tables."""

from __future__ import annotations

import functools
import struct
from collections.abc import Sequence
from typing import Any, ClassVar

import attrs
import numba
import numpy as np
from llvmlite import ir

from qframe_packed.compiled.functions import Function, function, names_of
from qframe_packed.compiled.memory import Buffer, Memory
from qframe_packed.compiled.vectors import call, emitter, integer, load, loop

# Bytes that a kernel reads or writes in a nanosecond, and registers that it multiplies:
# rough numbers, for `Parameters.cost`.
BYTES, REGISTERS = 16, 2
# A buffer, an array, a function or other parameters: compiled code reads the address.
Address = Any


@attrs.define(eq=False)
class Record:
    """Fields that compiled code reads by name.

    A subclass declares its fields by attrs. In compiled code a field is a float32 if it is
    annotated as ``float``, a record if it is one, and otherwise an int64: a number or an
    address.
    """

    dtype: ClassVar[np.dtype[Any]]
    layout: ClassVar[struct.Struct]

    def buffers(self) -> list[Buffer]:
        """Buffers among the fields, and in their records."""
        nested = [b for v in self._values() if isinstance(v, Record) for b in v.buffers()]
        return [value for value in self._values() if isinstance(value, Buffer)] + nested

    def functions(self) -> list[Function]:
        """Functions among the fields, and in their records."""
        nested = [f for v in self._values() if isinstance(v, Record) for f in v.functions()]
        return [value for value in self._values() if isinstance(value, Function)] + nested

    def places(self) -> list[tuple[Buffer, int]]:
        """Buffers, and the bytes in the record before the address of each."""
        places: list[tuple[Buffer, int]] = []
        fields: Any = self.dtype.fields
        for value, (_, offset, *_) in zip(self._values(), fields.values(), strict=True):
            if isinstance(value, Buffer):
                places.append((value, offset))
            elif isinstance(value, Record):
                places += [(buffer, offset + place) for buffer, place in value.places()]
        return places

    def _values(self) -> list[Any]:
        return [getattr(self, field.name) for field in attrs.fields(type(self))]

    def bind(self, memory: Memory) -> list[Any]:
        """The fields in this memory, with addresses in the place of what has one."""
        values: list[Any] = []
        for value in self._values():
            values += value.bind(memory) if isinstance(value, Record) else (value,)
        return memory.numbers(values)


@attrs.define(eq=False)
class Parameters(Record):
    """Parameters of a kernel, which a subclass declares: its fields, label and function."""

    @staticmethod
    def run(*arguments: Any) -> None:
        """Run the kernel; the last argument is the record of its fields."""
        raise NotImplementedError

    @property
    def body(self) -> Any:
        """What numba compiles: `run`, or what a subclass chooses by its fields."""
        return self.run

    @property
    def function(self) -> Function:
        """The function that a table calls."""
        return _function_of(self.body, type(self))  # type: ignore[arg-type]

    def functions(self) -> list[Function]:
        return [self.function, *super().functions()]

    def pack(self, memory: Memory) -> bytes:
        """The record in this memory."""
        define(type(self))
        return self.layout.pack(*self.bind(memory))

    @property
    def peak(self) -> float:
        """Products in a second, as many as the processor makes; 0 if it makes none."""
        return 0.0

    @property
    def numbers(self) -> int:
        """Sums of products of a sample; 0 if it makes none."""
        return 0

    @property
    def parts(self) -> int:
        """The parts of a sample that threads may compute, in any order."""
        return 1

    @property
    def grain(self) -> int:
        """The parts that take as long as one of them."""
        return 1

    @property
    def cost(self) -> float:
        """The nanoseconds that a sample takes, by a rough estimate."""
        return sum(buffer.size for buffer in self.buffers()) / BYTES

    @property
    def label(self) -> str:
        """Name of the kernel in summaries."""
        return type(self).__name__.lower()


@functools.cache
def _function_of(body: Any, record: type[Record]) -> Function:
    # A model has many kernels of few kinds, and numba takes long to read a dtype.
    *numbers, _ = names_of(body)
    return function(body, *[numba.int64] * len(numbers), numba.from_dtype(define(record)))


def define(record: type[Record]) -> np.dtype[Any]:
    """Give a record the types of its fields, as NumPy and as struct have them."""
    if "dtype" not in vars(record):
        fields: list[tuple[str, Any]] = []
        codes = ""
        for field in attrs.fields(attrs.resolve_types(record)):
            kind: Any = field.type if isinstance(field.type, type) else int
            if issubclass(kind, Record):
                fields.append((field.name, define(kind)))
                codes += f"0q{kind.layout.format}"
            else:
                fields.append((field.name, np.float32 if kind is float else np.int64))
                codes += "f" if kind is float else "q"
        # Zero integers at the end pad the record as C does.
        record.layout = struct.Struct(f"{codes}0q")
        # Last, since another thread takes a record that has it as defined.
        record.dtype = np.dtype(fields, align=True)
    return record.dtype


def table(kernels: Sequence[Parameters], memory: Memory) -> int:
    """Write a table of kernels in this memory, and return its address.

    A row has the addresses of a function and of a record.
    """
    packed = [kernel.pack(memory) for kernel in kernels]
    records = np.array(np.frombuffer(b"".join(packed), np.int64))
    start, offset, rows = memory.keep(records), 0, []
    for kernel, record in zip(kernels, packed, strict=True):
        for buffer, place in kernel.places():
            memory.mark(buffer, records, (offset + place) // records.itemsize)
        rows.append((kernel.function.address, start + offset))
        offset += len(record)
    return memory.keep(np.array(rows, np.int64))


def run_table(b: Any, table: Any, count: Any, *arguments: Any) -> None:
    """Emit calls of the functions of a table, each with the arguments and its record."""

    def row(index: Any, place: Any) -> tuple[Any, ...]:
        _call_row(b, place, *arguments)
        return (b.add(place, integer(16)),)

    loop(b, integer(0), count, 1, (table,), row)


@emitter
def run_row(b: Any, place: Any, begin: Any, end: Any) -> None:
    """Call the function of a row, for the parts of a batch from `begin` to `end`."""
    _call_row(b, place, begin, end)


def _call_row(b: Any, place: Any, *arguments: Any) -> None:
    number = ir.IntType(64)
    code, record = load(b, number, place), load(b, number, b.add(place, integer(8)))
    call(b, code, *arguments, b.inttoptr(record, ir.IntType(8).as_pointer()))
