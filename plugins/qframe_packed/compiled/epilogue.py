"""Epilogues: stages that follow products, on a few pixels that are still in the cache."""

from __future__ import annotations

import struct
from typing import Any, ClassVar

import attrs
import numba
import numpy as np

from qframe_packed.compiled.coding import Encode
from qframe_packed.compiled.finishing import Finish
from qframe_packed.compiled.functions import Function
from qframe_packed.compiled.levels import Pack
from qframe_packed.compiled.memory import Buffer, Memory
from qframe_packed.compiled.parameters import Address, Parameters, Record, run_table, table
from qframe_packed.compiled.vectors import copy, emitter


@attrs.frozen(eq=False)
class Store(Parameters):
    """A stage that writes the numbers to a tensor."""

    out: Address

    @staticmethod
    @numba.njit
    def run(values: int, width: int, first: int, size: int, channels: int, p: Any) -> None:
        out = p.out + 4 * first * channels
        if channels == width:
            copy(out, values, size * channels)
        else:
            for i in range(size):
                copy(out + 4 * i * channels, values + 4 * i * width, channels)


# Stages that change no numbers.
_READERS = (Store, Pack, Encode, Finish)


@emitter
def apply(
    b: Any,
    values: Any,
    width: Any,
    first: Any,
    size: Any,
    channels: Any,
    table: Any,
    count: Any,
) -> None:
    """Run a table of stages.

    A stage changes, or writes elsewhere, the numbers of `size` pixels from `first` on: rows
    of `width` floats from the address `values` on, of which `channels` are of the tensor.
    """
    run_table(b, table, count, values, width, first, size, channels)


@attrs.define(eq=False)
class Epilogue(Record):
    """Stages, to which a schedule adds as it goes on.

    Args:
        step: the number of the step that runs it.
        by_tensor: the stages of each tensor that it computes, by its index: those that
            lead to its numbers, and then those that read them. Stages that are added
            change the numbers of the last tensor.
    """

    step: int = -1
    by_tensor: dict[int, list[Parameters]] = attrs.field(factory=dict)
    dtype: ClassVar[np.dtype[Any]] = np.dtype(
        [("table", np.int64), ("count", np.int64), ("changes_values", np.int64)]
    )
    layout: ClassVar[struct.Struct] = struct.Struct("qqq")

    @property
    def stages(self) -> list[Parameters]:
        """All stages, in order."""
        return [stage for part in self.by_tensor.values() for stage in part]

    @property
    def last(self) -> int:
        """Index of the last tensor."""
        return next(reversed(self.by_tensor))

    def extend(self, tensor: int, *stages: Parameters) -> None:
        """Let the numbers become those of another tensor."""
        self.by_tensor[tensor] = [*stages]

    def buffers(self) -> list[Buffer]:
        return [buffer for stage in self.stages for buffer in stage.buffers()]

    def functions(self) -> list[Function]:
        return [function for stage in self.stages for function in stage.functions()]

    def places(self) -> list[tuple[Buffer, int]]:
        # The stages are in a table, which is not a part of this record.
        return []

    def bind(self, memory: Memory) -> list[Any]:
        stages = self.stages
        changes = not all(isinstance(stage, _READERS) for stage in stages)
        return [table(stages, memory), len(stages), changes]
