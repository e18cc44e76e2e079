"""The levels of a kernel and the correction of its bias, from moments."""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np
from keras import ops
from numpy.typing import NDArray

from qframe.layers.slots import Slot
from qframe.passes.rounding.moments import Moments
from qframe.passes.rounding.rounders import (
    Rounder,
    Rounding,
    check_finite,
    checked_levels,
    damped,
)
from qframe.passes.rounding.sites import Target

Array = NDArray[np.float64]

# The part of the mean square of the inputs that is added to each square.
_DAMPING = 0.01


@attrs.frozen(eq=False)
class Choice:
    """The levels of a kernel.

    Args:
        integers: the integers, in the shape of the kernel.
        scale: the scale, broadcastable to them.
        zero_point: the zero point, of the same kind.
        correction: what to add to the bias, in its shape; None to leave it.
        error: the error in the outputs, as a part of their square.
        nearest: that of the nearest levels of the latent weights.
    """

    integers: NDArray[np.int64]
    scale: Array
    zero_point: Array
    correction: Array | None
    error: float
    nearest: float


def choose(
    target: Target, moments: Moments, method: str, rounder: Rounder, bias: Slot | None
) -> Choice:
    """Choose the levels of a kernel, and the correction of the bias if one is given."""
    path = target.slot.path
    check_finite(path, *attrs.astuple(moments, recurse=False)[:-1])
    weights = target.weights()
    check_finite(path, weights)
    used = moments if bias is None else moments.centred(weights)
    used = used.shrunk(weights)
    wanted = _wanted(weights, used) if getattr(rounder, "compensates", True) else weights
    scale, zero_point, rounding = _rounding(target, wanted, used.squares)
    levels = checked_levels(method, rounder(rounding), rounding)
    *_, plain = _rounding(target, weights, used.squares)
    # Both are compared with the weights for which the outputs are best.
    size = max(float(np.einsum("gkf,gkf->", wanted, used.squares @ wanted)), 1e-300)
    nearest = attrs.evolve(plain, weights=wanted).error(plain.nearest())
    correction = None
    if bias is not None:
        shift = _mean_error(moments, weights, rounding.values(levels))
        shape = tuple(bias.variable.shape)
        correction = target.matrices.bias(shift, shape).astype(np.float64)
    integers = target.levels
    numbers = integers.start + integers.step * levels.astype(np.int64)
    return Choice(
        _as_kernel(target, numbers),
        scale,
        zero_point,
        correction,
        rounding.error(levels) / size,
        nearest / size,
    )


def _mean_error(moments: Moments, weights: Array, rounded: Array) -> Array:
    """The mean error of the outputs, of shape (G, F), without what may be chance.

    That of few rows is pulled to 0, the more the larger its variance is beside its square.
    """
    means = (moments.floats @ weights - moments.quantized @ rounded)[:, 0]
    if not moments.are_few:
        return means
    error = rounded - weights
    squares = moments.centred(weights).squares
    variance = np.einsum("gkf,gkf->gf", error, squares @ error)
    if moments.rows == 1:
        return np.zeros_like(means)
    chance = variance / (moments.rows - 1) / np.maximum(means**2, 1e-300)
    return np.asarray(means * np.clip(1 - chance, 0, 1))


def _wanted(weights: Array, moments: Moments) -> Array:
    """The weights that make up best for the error of the quantized inputs."""
    squares, added = damped(moments.squares, _DAMPING)
    crossed = moments.crossed + added[:, :, None] * weights
    return np.asarray(np.linalg.solve(squares, crossed))


def _rounding(
    target: Target, weights: Array, squares: Array
) -> tuple[Array, Array, Rounding]:
    """The grid that a quantizer has for weights, and the task of a rounder."""
    slot, quantizer, integers = target.slot, target.quantizer, target.levels
    kernel = _as_kernel(target, weights).astype(np.float32)
    axes = {"channel_axis": slot.channel_axis} if quantizer.traits.channelwise else {}
    affine: Any = quantizer.affine(ops.convert_to_tensor(kernel), **axes)
    scale, zero = (np.asarray(ops.convert_to_numpy(each), np.float64) for each in affine)
    order = target.matrices.order
    spread = [np.broadcast_to(e, kernel.shape).ravel()[order] for e in (scale, zero)]
    # A channel of zeros may have a scale of 0, which makes any level a zero.
    step = np.where(spread[0] == 0, 1.0, spread[0])
    lowest = (integers.start - spread[1]) * step
    rounding = Rounding(weights, squares, lowest, step * integers.step, len(integers))
    return scale, zero, rounding


def _as_kernel(target: Target, matrix: NDArray[Any]) -> NDArray[Any]:
    """Matrices in the shape of the kernel."""
    shape = tuple(target.slot.variable.shape)
    kernel = np.empty(int(np.prod(shape)), matrix.dtype)
    kernel[target.matrices.order.ravel()] = matrix.ravel()
    return kernel.reshape(shape)
