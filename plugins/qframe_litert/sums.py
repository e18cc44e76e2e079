"""The integers with which a product computes its result."""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from qframe.deployment.graph.fused import Fused
from qframe.errors import QFrameError
from qframe_litert.grids import StoredGrid

Array = NDArray[Any]
# Sums that are an odd number of these steps saturate to one of two levels, which are 127 or
# 255 integers from the zero point. XNNPACK computes with up to 256.
_SIGN_STEP, _ZERO_ONE_STEP = 128.0, 255.5


@attrs.frozen(eq=False)
class Sums:
    """``scale of the input * scale * (sums of products with the kernel + bias)``.

    Args:
        kernel: integers, in the shape of the graph.
        scale: float32, of each output channel.
        bias: integers of each output channel.
        step: the real number of 1 in the sums of each channel.
    """

    kernel: Array
    scale: Array
    bias: Array
    step: Array

    @classmethod
    def of(cls, fused: Fused, x: StoredGrid, y: StoredGrid) -> Sums:
        """The sums of a product that reads and returns stored integers.

        Raises:
            QFrameError: a result of two levels does not follow from a threshold.
        """
        product: Any = fused.operation
        kernel = product.kernel.integers().astype(np.int64)
        bias = fused.bias.astype(np.int64)
        scale = np.broadcast_to(product.kernel.scale, bias.shape).astype(np.float32)
        if y.factor == 1:
            bias = x.factor * bias
        else:
            # Twice the sums, and 1 to where the threshold is reached: never 0.
            bias = 2 * x.factor * (bias - _thresholds(fused)) + 1
            kernel = 2 * kernel
            steps = _ZERO_ONE_STEP if y.zero_point else _SIGN_STEP
            scale = np.full(bias.shape, steps * y.scale / x.scale, np.float32)
        return cls(kernel, scale, bias, np.float64(x.scale) * scale.astype(float))


def _thresholds(fused: Fused) -> Array:
    """For each channel the smallest sum, with its bias, that reaches the upper level."""
    quantize: Any = fused.quantize
    (threshold,) = np.broadcast_to(quantize.thresholds.T, (len(fused.bias), 1)).T
    scale = fused.scale.astype(np.float32)
    if fused.activation is not None or quantize.direction is not None:
        raise QFrameError("an activation before a quantizer of two levels is not supported")
    sums = np.ceil(threshold.astype(float) / scale)
    if not (np.abs(sums) < 2**24).all():
        raise QFrameError("its threshold is beyond what sums reach")
    # As the reference computes, in float32.
    near = sums + np.array([[-1.0], [0.0], [1.0]])
    reached = near.astype(np.float32) * scale >= threshold.astype(np.float32)
    return np.asarray(near[0] + (~reached).sum(axis=0), np.int64)
