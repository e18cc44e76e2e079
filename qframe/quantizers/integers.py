"""The integers of quantized values, which a deployed model stores."""

from __future__ import annotations

from typing import Any

import attrs
import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from qframe.errors import QFrameError
from qframe.quantizers.groups import Groups
from qframe.quantizers.traits import Traits

# The bits of a scale in float32, and of the exponent of a power of two.
SCALE_BITS, EXPONENT_BITS = 32, 8
# The largest distance from an integer, in steps, that rounding in float32 explains.
_TOLERANCE = 1e-2
# The largest part of a number by which rounding to a dtype of fewer bits changes it.
_ROUNDING = {"float16": 1 / (1 + 2**11), "bfloat16": 1 / (1 + 2**8)}


@attrs.frozen(eq=False)
class Integers:
    """Quantized values as ``scale * (values - zero_point)``.

    Args:
        values: integers of the smallest signed dtype that holds them, in the shape of the
            weight; +1 and -1 for binary ones.
        scale: the step between neighbouring integers, float32, broadcastable to `values`;
            for groups one for each, as `Groups.compact` returns it.
        zero_point: the integer that stands for 0.0, int32, of the same kind.
        precision: the bits that the quantizer declares, or None.
        groups: the groups that share a scale; None for a scale of the tensor or of each
            channel. Default None.
    """

    values: NDArray[np.signedinteger[Any]]
    scale: NDArray[np.float32]
    zero_point: NDArray[np.int32]
    precision: int | None = None
    groups: Groups | None = None

    def spread(self) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """The scale and the zero point, broadcastable to `values` for groups too."""
        if self.groups is None:
            return self.scale, self.zero_point
        shape, spread = self.values.shape, self.groups.spread
        return spread(self.scale, shape), spread(self.zero_point, shape)

    def dequantized(self) -> NDArray[np.float32]:
        """``scale * (values - zero_point)`` in float32."""
        scale, zero_point = self.spread()
        # NumPy 1 would subtract a single zero point in the narrow dtype of the values.
        steps = self.values.astype(np.int64) - zero_point
        result: NDArray[np.float32] = scale * steps.astype(np.float32)
        return result


def affine_of_levels(traits: Traits) -> tuple[float, int] | None:
    """The scale and zero point of levels; None if they are not evenly spaced."""
    if not traits.levels or traits.scaled:
        return None
    levels = np.asarray(traits.levels, np.float64)
    step = np.diff(levels).min() if len(levels) > 1 else abs(levels[0])
    # Half a step is for levels without 0: -1 and 1 are one step of 2 apart.
    for scale in (1.0, step, step / 2):
        if scale and np.allclose(levels / scale, np.rint(levels / scale), atol=1e-6):
            return float(scale), 0
    return None


def integers_of_levels(traits: Traits) -> range | None:
    """The integers that levels stand for; None if they are not evenly spaced."""
    scale = (1.0, 0) if traits.scaled else affine_of_levels(traits)
    if scale is None or not traits.levels or len(traits.levels) < 2:
        return None
    steps = np.asarray(traits.levels, np.float64) / scale[0]
    integers = np.rint(steps).astype(int)
    strides = set(np.diff(integers).tolist())
    if len(strides) > 1 or not np.allclose(steps, integers, atol=1e-6):
        return None
    return range(int(integers[0]), int(integers[-1]) + 1, strides.pop())


def integers_of(
    quantizer: Any, quantized: Any, affine: tuple[Any, Any], groups: Groups | None = None
) -> Integers:
    """The integers of the values of a quantizer, for its scale and zero point.

    Raises:
        QFrameError: the values are not finite, or are not on that grid.
    """
    values = _as_numpy(quantized).astype(np.float64)
    scale, zero_point = (_as_numpy(part) for part in affine)
    if not np.isfinite(values).all():
        raise QFrameError(
            f"{quantizer!r} gave values that are not finite, which no integer stands for. "
            "The latent weights hold NaN or infinity: train again from a checkpoint."
        )
    divisor = np.where(scale == 0, 1, scale).astype(np.float64)
    steps = values / divisor + zero_point
    integers = np.rint(steps)
    # Values are steps rounded to their dtype, which up to half a step does no harm.
    dtype = keras.backend.standardize_dtype(quantized.dtype)
    rounding = _ROUNDING.get(dtype, 0.0) * np.abs(steps - zero_point)
    distance = np.abs(steps - integers)
    worst = distance.max(initial=0)
    if (rounding >= 0.5).any():
        raise QFrameError(
            f"the values of {quantizer!r} reach {np.abs(steps - zero_point).max():.0f} "
            f"steps, which {dtype} cannot tell apart. Build the layer with dtype='float32' "
            f"or 'mixed_{dtype}', or take fewer bits."
        )
    if (distance > _TOLERANCE + rounding).any():
        raise QFrameError(
            f"the values of {quantizer!r} are not on the grid that its `affine` states: "
            f"one is {worst:.2g} steps from an integer. Correct `affine`, or let it return "
            "None if there is no such grid."
        )
    levels = quantizer.traits.levels
    if levels and 0.0 not in levels:
        # 0 is not a level, and with a scale of 0 any level stands for 0.0.
        integers = np.where(np.broadcast_to(scale == 0, steps.shape), levels[-1], integers)
    scale, zero_point = scale.astype(np.float32), np.asarray(zero_point, np.int32)
    if groups is not None:
        scale, zero_point = groups.compact(scale), groups.compact(zero_point)
    integers = integers.astype(_smallest_dtype(integers))
    return Integers(integers, scale, zero_point, quantizer.precision, groups)


def _as_numpy(tensor: Any) -> NDArray[Any]:
    if isinstance(tensor, (int, float, np.ndarray, np.generic)):
        return np.asarray(tensor)
    # NumPy has no bfloat16.
    return np.asarray(ops.convert_to_numpy(ops.cast(tensor, "float32")))


def _smallest_dtype(values: NDArray[Any]) -> type[np.signedinteger[Any]]:
    low, high = values.min(initial=0), values.max(initial=0)
    for dtype in (np.int8, np.int16, np.int32):
        if np.iinfo(dtype).min <= low and high <= np.iinfo(dtype).max:
            return dtype
    return np.int64
