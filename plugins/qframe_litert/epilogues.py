"""The ends of the range of a result: saturation, activations, and clipping."""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np

from qframe.deployment.graph.values import Value
from qframe.errors import QFrameError
from qframe_litert.grids import ENDS
from qframe_litert.model import Options
from qframe_litert.writer import Writer, Written

NONE, RELU, BETWEEN_SIGNS, RELU6 = 0, 1, 2, 3


@attrs.frozen
class Epilogue:
    """What follows the sums of an operator.

    Args:
        function: the code of the activation that the operator computes itself.
        low: an integer of the file, to which smaller results are raised by a separate
            operator; None for none.
        high: likewise one to which larger results are lowered.
    """

    function: int
    low: int | None
    high: int | None

    @classmethod
    def of(
        cls, writer: Writer, activation: Any, value: Value, *, fuses: bool = True
    ) -> Epilogue:
        """The epilogue of an operator that returns a value after a ReLU or nothing.

        Args:
            writer: knows the integers of the file.
            activation: a ReLU of the graph; None for none.
            value: the result.
            fuses: whether the operator computes a ReLU itself. Default True.

        Raises:
            QFrameError: the activation is another one.
        """
        grid: Any = value.grid
        stored = writer.stored(grid)
        least, most = ENDS[writer.settings.activations]
        low, high = (int(stored.store(end)) for end in (grid.span.low, grid.span.high))
        function, zero = NONE, stored.zero_point
        if stored.factor > 1 and low == -most and stored.scale * most == 1 and fuses:
            function, least = BETWEEN_SIGNS, low
        if activation is not None:
            if not is_relu(activation):
                name = activation.function
                kind = "ReLU with a slope or a threshold" if name == "relu" else repr(name)
                raise QFrameError(
                    f"its activation, {kind}, reads sums that are not quantized, and only "
                    "a plain ReLU may. Write it as a layer, and quantize what it reads"
                )
            # Rounding is monotone: what is clipped and then rounded is what is rounded
            # and then clipped.
            low, top = max(low, zero), activation.most
            steps = np.inf if top is None else np.rint(np.float32(top / grid.scale))
            high = int(min(high, zero + steps))
            if fuses and top == 6 and zero + steps == high < most:
                function, most = RELU6, high
            elif fuses and low > least:
                function = RELU
            least = least if function == NONE else max(least, zero)
        raised = low if low > least else None
        lowered = high if high < most else None
        return cls(function, raised, lowered)

    def finish(self, writer: Writer, out: Written) -> Written:
        """Clip the result of the operator where it does not saturate by itself."""
        for code, end in (("MAXIMUM", self.low), ("MINIMUM", self.high)):
            if end is not None:
                limit = writer.integers("limit", [end], out.grid)
                options = Options("MaximumMinimumOptions")
                out = writer.emit(code, (out.index, limit), out.value, options)
        return out


def is_relu(activation: Any) -> bool:
    """Return whether an activation is a plain ReLU, perhaps clipped; or None."""
    if activation is None:
        return True
    return bool(
        activation.function == "relu" and not activation.alpha and not activation.threshold
    )
