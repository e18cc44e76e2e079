"""Biases as integers, in steps of the sums to which they are added."""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from qframe.deployment.graph.fused import Fused
from qframe.deployment.graph.graph import Node
from qframe.deployment.graph.kernels import Kernel, multiplied, per_output
from qframe.deployment.graph.rewriting import Draft

# The largest bias in steps of a sum; the rest of int32 is for the products.
_LARGEST_BIAS = 2**30


def place_bias(draft: Draft, key: int, node: Node) -> bool:
    """Round the bias of a product of integers to int32, in steps of its sums.

    Where the bias does not fit int32, because batch normalization switched a channel off
    by a tiny scale, the scale is raised and the integers of the channel are rounded.
    """
    fused = node.operation
    if not isinstance(fused, Fused) or not fused.is_product or fused.scales[0] is None:
        return False
    if fused.bias is not None and fused.bias.dtype.kind == "i":
        return False
    product: Any = fused.operation
    count, x = product.kernel.shape[0], np.float64(fused.scales[0])
    bias = np.zeros(count) if fused.bias is None else fused.bias
    kernel = multiplied(product.kernel, np.ones(count))
    least = np.abs(bias) / (_LARGEST_BIAS * x)
    least[(least == 0) & (kernel.scale == 0)] = 1.0
    scale = np.maximum(kernel.scale, least).astype(np.float32)
    values = kernel.integers()
    if (kernel.scale < least).any():
        factor = np.where(kernel.scale < least, kernel.scale / scale, 1.0)
        values = np.rint(values * per_output(factor, kernel)).astype(values.dtype)
    product = attrs.evolve(product, kernel=Kernel(values, scale))
    exact = bias / (x * scale.astype(float))
    steps = _rounded(exact, fused)
    moved = 0.0
    if fused.quantize is not None and len(fused.quantize.thresholds) > 1:
        reals = np.abs(steps - exact) * x * scale.astype(float)
        moved = float(reals.max() / fused.quantize.scale)
    placed = attrs.evolve(
        fused, operation=product, bias=steps.astype(np.int32), moved=moved
    )
    draft.set_node(key, placed, *node.inputs, name=node.name)
    return True


def _rounded(bias: NDArray[Any], fused: Fused) -> NDArray[Any]:
    """A bias in steps of the sums, as an integer."""
    quantize = fused.quantize
    if quantize is None or fused.activation is not None or len(quantize.thresholds) > 1:
        return np.rint(bias)
    # Some backends flush subnormal numbers to 0.
    if not -1e-37 < quantize.thresholds[0] <= 0:
        return np.rint(bias)
    # An integer is at least -bias where it is at least -floor(bias): no sign changes. The
    # tolerance absorbs rounding errors of an integer bias and is too small for others.
    return np.floor(bias + np.clip(1e-6 * np.abs(bias), 1e-6, 0.25))
