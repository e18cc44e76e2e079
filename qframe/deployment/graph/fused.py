"""An operation and its epilogue as one node, as integer targets run them."""

from __future__ import annotations

from typing import Any, ClassVar

import attrs
import numpy as np

from qframe.deployment.graph.operations import (
    Activation,
    Conv2D,
    Conv2DTranspose,
    Dense,
    Operation,
    Quantize,
)
from qframe.deployment.graph.values import Value
from qframe.errors import DataError

PRODUCTS = (Conv2D, Conv2DTranspose, Dense)


@attrs.frozen(eq=False)
class Fused(Operation):
    """An operation with its epilogue: a bias, an activation and a quantizer.

    Args:
        operation: a product, or an operation on floats such as `Merge`. Its kernel includes
            the scales of batch normalization, which are positive.
        scales: the scale of each input; None for one of floats.
        bias: for each output channel, int32 in steps of `scale`, or floats if the input
            has no grid. Default None.
        activation: a ReLU of any kind. Default None.
        quantize: the quantizer; without one the result is float32. Default None.
        moved: how far rounding moved a bias, at most, in steps of the result. Default 0.
    """

    name: ClassVar[str] = "fused"
    operation: Operation
    scales: tuple[Any, ...]
    bias: Any = None
    activation: Activation | None = None
    quantize: Quantize | None = None
    moved: float = 0.0

    @property
    def arity(self) -> int | None:  # type: ignore[override]
        """The number of inputs."""
        return self.operation.arity

    @property
    def is_product(self) -> bool:
        """Return whether the operation has a kernel."""
        return isinstance(self.operation, PRODUCTS)

    @property
    def scale(self) -> Any:
        """The step of the sums of each output channel: input scale times kernel scale."""
        kernel = self.operation.kernel  # type: ignore[attr-defined]
        scale = np.float64(self.scales[0]) * kernel.scale
        return np.broadcast_to(scale, kernel.shape[:1])

    def infer(self, *inputs: Value) -> Value:
        if len(self.scales) != len(inputs):
            raise DataError(f"it has {len(self.scales)} scales for {len(inputs)} inputs")
        for scale, x in zip(self.scales, inputs, strict=True):
            if (scale is None) is not (x.grid is None):
                raise DataError("integers have a scale, and floats have none")
        if not self.is_product:
            inputs = tuple(Value(x.shape) for x in inputs)
        shape = self.operation.infer(*inputs).shape
        return Value(shape, None if self.quantize is None else self.quantize.grid)


def unfused(operation: Operation) -> Operation:
    """An operation without its epilogue."""
    return operation.operation if isinstance(operation, Fused) else operation
