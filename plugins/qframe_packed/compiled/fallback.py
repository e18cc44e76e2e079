"""The fallback: an operation by NumPy, between two programs."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import attrs
import numpy as np

from qframe.deployment.graph import reference
from qframe.deployment.graph.values import Value
from qframe_packed.compiled.memory import Buffer, Memory


def is_large(value: Value) -> bool:
    """Return whether the integers of a tensor may exceed float32; they are int32 then."""
    span = value.span
    return span is not None and max(abs(span.low), abs(span.high)) > 2**24


@attrs.frozen(eq=False)
class Fallback:
    """An operation by NumPy.

    Args:
        operation: the operation.
        sources: buffers of its inputs.
        inputs: its inputs.
        out: buffer of its result.
        result: its result.
    """

    operation: Any
    sources: list[Buffer]
    inputs: list[Value]
    out: Buffer
    result: Value
    label = "numpy"
    peak, numbers = 0.0, 0

    def buffers(self) -> list[Buffer]:
        """Buffers that the operation reads or writes."""
        return [*self.sources, self.out]

    def bind(self, memory: Memory) -> Callable[[int], None]:
        """Return the function that runs it in this memory for a number of samples."""
        pairs = zip(self.buffers(), [*self.inputs, self.result], strict=True)
        *arrays, out = (
            memory.array(buffer, np.int32 if is_large(value) else np.float32)
            for buffer, value in pairs
        )

        def run(samples: int) -> None:
            inputs = []
            for array, value in zip(arrays, self.inputs, strict=True):
                size = samples * math.prod(value.shape)
                x = array[:size].reshape(samples, *value.shape)
                inputs.append(x if value.span is None else x.astype(np.int32))
            result = reference.run(self.operation, *inputs)
            out[: result.size] = result.reshape(-1)

        return run
