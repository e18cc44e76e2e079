"""The kernel that joins tensors along an axis."""

from __future__ import annotations

import math
from typing import Any

import attrs
import numba

from qframe.deployment.graph.values import Value
from qframe_packed.compiled.memory import Buffer
from qframe_packed.compiled.parameters import Address, Parameters
from qframe_packed.compiled.vectors import copy_bytes


@attrs.frozen(eq=False)
class Join(Parameters):
    """A tensor as a part of another one, which has others beside it along an axis."""

    source: Address
    blocks: int  # of a sample: runs of numbers that are together in both
    block_bytes: int
    out: Address
    begin: int  # byte of the first block
    stride: int  # bytes from a block to the next

    @classmethod
    def of(
        cls,
        sources: list[Buffer],
        out: Buffer,
        axis: int,
        values: list[Value],
        number_bytes: int,
    ) -> list[Join]:
        """The kernels for tensors that follow one another along an axis of a batch."""
        sizes = [number_bytes * math.prod(value.shape[axis - 1 :]) for value in values]
        blocks, begin, kernels = math.prod(values[0].shape[: axis - 1]), 0, []
        for source, size in zip(sources, sizes, strict=True):
            kernels.append(cls(source, blocks, size, out, begin, sum(sizes)))
            begin += size
        return kernels

    @property
    def parts(self) -> int:
        return self.blocks

    @staticmethod
    @numba.njit
    def run(begin: int, end: int, p: Any) -> None:
        size = p.block_bytes
        for i in range(begin, end):
            copy_bytes(p.out + p.begin + i * p.stride, p.source + i * size, size)
