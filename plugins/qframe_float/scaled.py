"""Base of the floating-point quantizers: a format, and scales computed from tensors."""

from __future__ import annotations

from typing import Any

import attrs
import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from qframe.quantizers import Integers, Quantizer
from qframe.quantizers.arithmetic import as_array, tiny, wide, wide_array
from qframe.quantizers.integers import integers_of
from qframe_float.formats import Format, power_below


class FloatQuantizer(Quantizer):
    """The numbers of a format times a scale."""

    format: Format

    def scales(self, inputs: Any, channel_axis: Any = -1) -> Any:
        """The factors of the numbers of the format, broadcastable to `inputs`."""
        raise NotImplementedError

    def reference_scales(self, x: Any, axis: Any = None) -> Any:
        """The NumPy reference of `scales`, of an array of float32 or float64."""
        raise NotImplementedError

    def fits(self, shape: Any, channel_axis: Any = -1) -> bool:
        self._axes(len(shape), channel_axis)  # raises if the tensor lacks one
        return True

    def _axes(self, rank: int, channel_axis: Any) -> tuple[int, ...]:
        """The axes over which a scale applies, or along which blocks run."""
        raise NotImplementedError

    def value(self, inputs: Any, channel_axis: Any = -1, noise: Any = None) -> Any:
        scales = self.scales(inputs, channel_axis)
        return ops.cast(self._numbers(inputs, scales, noise) * scales, inputs.dtype)

    def _numbers(self, inputs: Any, scales: Any, noise: Any = None) -> Any:
        """The numbers of the format, before the scale."""
        x = wide(inputs)
        # Devices differ in how they compute with subnormal numbers.
        x = ops.where(ops.less(ops.abs(x), tiny(x)), ops.zeros_like(x), x)
        return self.format.rounded(x / scales, noise)

    def affine(self, inputs: Any, channel_axis: Any = -1) -> tuple[Any, int]:
        return self.scales(inputs, channel_axis) * self.format.unit, 0

    def integers(self, inputs: Any, channel_axis: Any = -1) -> Integers:
        """The quantized `inputs` in units: multiples of the smallest number of the format.

        The scale is the unit times the scale of the tensor, channel or block.
        """
        # Not from the values: rounding their product shifts them by many of these units.
        inputs = ops.convert_to_tensor(inputs)
        scales = self.scales(inputs, channel_axis)
        unit = self.format.unit
        integers = integers_of(self, self._numbers(inputs, scales), (unit, 0))
        scale = np.asarray(as_array(scales) * unit, np.float32)
        groups = self.groups_of(tuple(inputs.shape), channel_axis)
        if groups is not None:
            scale = groups.compact(scale)
        return attrs.evolve(integers, scale=scale, groups=groups)

    def codes(
        self, inputs: Any, channel_axis: Any = -1
    ) -> tuple[NDArray[np.unsignedinteger[Any]], NDArray[np.float32]]:
        """The bit patterns of the quantized `inputs`, and their scales.

        The number of a pattern times its scale is the quantized value; -0 becomes +0.

        Args:
            inputs: a tensor of finite numbers.
            channel_axis: the axis or axes of the output channels. Default -1.

        Returns:
            The patterns, one in each uint8 (uint16 beyond 8 bits), and the scales in
            float32, broadcastable to them.

        Raises:
            QFrameError: the inputs are not finite.

        Example:
            >>> import qframe as qf
            >>> patterns, scales = qf.quantizers.Float8E4M3().codes([1.0, -448.0])
            >>> [hex(pattern) for pattern in patterns], float(scales)
            (['0x38', '0xfe'], 1.0)
        """
        integers = self.integers(inputs, channel_axis)
        unit = np.float32(self.format.unit)
        return self.format.patterns(integers.values), integers.spread()[0] / unit

    def reference(self, x: Any, axis: Any = None) -> Any:
        """The NumPy reference of `value`."""
        wide = wide_array(x)
        wide = np.where(np.abs(wide) < np.finfo(wide.dtype).tiny, 0, wide)
        scales = self.reference_scales(wide, axis)
        return (self.format.reference(wide / scales) * scales).astype(x.dtype)

    def _clipped(self, scales: Any, dtype: Any) -> Any:
        """Clip scales so that no value is subnormal, or infinite in the dtype."""
        low, high = self._limits(_info(scales), keras.backend.standardize_dtype(dtype))
        return ops.clip(scales, low, high)

    def _limits(self, info: Any, dtype: str) -> tuple[float, float]:
        """The smallest and the largest scale."""
        # bfloat16 has the exponents of float32.
        top = 15 if dtype == "float16" else int(info.maxexp) - 1
        largest = 2.0 ** (top - self.format.largest_exponent)
        return float(info.tiny) / self.format.unit, largest


def magnitudes(x: Any) -> Any:
    """Magnitudes, with 0 for NaN and the largest finite number for infinities."""
    finite = ops.minimum(ops.abs(x), float(_info(x).max))
    return ops.where(ops.isnan(x), ops.zeros_like(x), finite)


def power_of(x: Any) -> Any:
    """The largest power of two up to `x`, which is positive and finite."""
    info = _info(x)
    start = ops.where(ops.less(x, 1), ops.full_like(x, float(info.tiny)), ops.ones_like(x))
    # Half of the exponents of the dtype are below that of 1.
    return power_below(x, start, int(info.nexp) - 1)


def _info(x: Any) -> Any:
    return np.finfo(keras.backend.standardize_dtype(x.dtype))
