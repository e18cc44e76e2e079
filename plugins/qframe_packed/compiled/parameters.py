"""Declaration of kernels: parameters that compiled code reads by field, and dispatch."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import attrs
import numpy as np

from qframe_packed.compiled.addresses import record_view
from qframe_packed.compiled.memory import Buffer, Memory

# One row of a table: the code of a kernel, and the address of its record.
ENTRY = np.dtype([("code", np.int64), ("parameters", np.int64)])
# A buffer, an array or other parameters: compiled code reads the address.
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
        values = [getattr(self, name) for name in self.dtype.names or ()]
        nested = [b for v in values if isinstance(v, Record) for b in v.buffers()]
        return [value for value in values if isinstance(value, Buffer)] + nested

    def bind(self, memory: Memory) -> list[Any]:
        """The fields in this memory, with addresses in the place of buffers and arrays."""
        values: list[Any] = []
        for name in self.dtype.names or ():
            value = getattr(self, name)
            values += value.bind(memory) if isinstance(value, Record) else (value,)
        return memory.numbers(values)


@attrs.define(eq=False)
class Parameters(Record):
    """Parameters of a kernel, which a subclass declares: its fields, label and function."""

    code: ClassVar[int]

    @staticmethod
    def run(*arguments: Any) -> None:
        """Run the kernel; the last argument is the record of its fields."""
        raise NotImplementedError

    @property
    def label(self) -> str:
        """Name of the kernel in summaries."""
        return type(self).__name__.lower()


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
        record.dtype = np.dtype(fields, align=True)
        record.layout = struct.Struct(f"{codes}0q")
    return record.dtype


def table(kernels: Sequence[Parameters], memory: Memory) -> int:
    """Write a table of kernels in this memory, and return its address."""
    records = [kernel.layout.pack(*kernel.bind(memory)) for kernel in kernels]
    start = memory.keep(np.frombuffer(b"".join(records), np.uint8))
    offsets = itertools.accumulate(map(len, records), initial=start)
    entries = [(k.code, address) for k, address in zip(kernels, offsets, strict=False)]
    return memory.keep(np.array(entries, ENTRY))


def dispatch(arguments: str, kernels: Sequence[type[Parameters]]) -> Callable[..., None]:
    """Give each kernel its code, and build the function that runs a table.

    Numba compiles the function. Its source is::

        def run(<arguments>, table, count):
            for index in range(count):
                entry = entry_at(table + 16 * index)
                if entry.code == 0:
                    Gemm(<arguments>, Gemm_at(entry.parameters))
                elif entry.code == 1:
                    ...
    """
    scope: dict[str, Any] = {"__name__": __name__, "entry_at": record_view(ENTRY)}
    lines = [
        f"def run({arguments}, table, count):",
        "    for index in range(count):",
        f"        entry = entry_at(table + {ENTRY.itemsize} * index)",
    ]
    for code, kernel in enumerate(kernels):
        kernel.code, name = code, kernel.__name__
        scope |= {name: kernel.run, f"{name}_at": record_view(define(kernel))}
        lines += [
            f"        {'elif' if code else 'if'} entry.code == {code}:",
            f"            {name}({arguments}, {name}_at(entry.parameters))",
        ]
    # Numba keeps compiled code beside the file of its source, so the file has to exist.
    exec(compile("\n".join(lines), __file__, "exec"), scope)
    return scope["run"]
