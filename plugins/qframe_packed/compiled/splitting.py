"""Splitting of kernels into chunks, for threads that run a program together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qframe_packed.compiled.parameters import Parameters

# All are nanoseconds, by the rough estimates of kernels. To take a chunk takes some tens of
# them, and half a chunk is how long a thread waits for another at the end of a kernel.
_CHUNK = 5_000
# A kernel that takes less is not split, and is one chunk with others beside it.
_TINY = 3_000
# A program that takes less is done before other threads have woken up.
WORTH = 500_000


def plan_of(kernels: Sequence[Parameters]) -> NDArray[Any]:
    """How kernels are split: (kernel, 3).

    They are the parts of a sample, the parts of a chunk, and the number of kernels that are
    one chunk, of which this one is the first.
    """
    plan = np.ones((len(kernels), 3), np.int64)
    for row, kernel in zip(plan, kernels, strict=True):
        grains = kernel.parts / max(1.0, kernel.cost / _CHUNK) / kernel.grain
        row[:2] = kernel.parts, max(1, round(grains)) * kernel.grain
    _join(plan, [kernel.cost for kernel in kernels])
    return plan


def _join(plan: NDArray[Any], costs: list[float]) -> None:
    """Let runs of kernels that take little time be one chunk."""
    first, total = 0, 0.0
    for place, cost in enumerate(costs):
        if cost > _TINY:
            first, total = place + 1, 0.0
            continue
        total += cost
        if total > _CHUNK:
            first, total = place, cost
        plan[place, 1] = 2**62
        plan[first, 2] = place + 1 - first
