"""Base classes of the quantizers of QKeras."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from qframe.quantizers import Quantizer, Traits, straight_through
from qframe.quantizers.arithmetic import tiny, wide, wide_array
from qframe.quantizers.integers import EXPONENT_BITS, SCALE_BITS
from qframe_fixed.options import Alpha, seed_of


class StochasticQuantizer(Quantizer):
    """A quantizer that may draw a random number for each element in training.

    `value` of a subclass also takes ``noise``, uniform in [0, 1), or None without draws.

    Args:
        seed: of the draws, an integer; None for a different one in each process.
        draws: whether it draws random numbers in training.
    """

    def __init__(self, seed: int | None, draws: bool, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.seed = seed_of(type(self).__name__, seed)
        self.draws = draws
        if draws:
            self.generator = keras.random.SeedGenerator(self.seed)

    def call(self, inputs: Any, training: bool = False, channel_axis: Any = -1) -> Any:
        axis = {"channel_axis": channel_axis} if self.traits.channelwise else {}
        noise: Any = None
        if training and self.draws:
            shape = ops.shape(inputs)
            noise = keras.random.uniform(shape, dtype="float32", seed=self.generator)
        value = ops.stop_gradient(self.value(inputs, noise=noise, **axis))
        return value + straight_through(ops.zeros_like, self.gradient)(inputs)

    def value(self, inputs: Any, noise: Any = None) -> Any:
        raise NotImplementedError(f"{type(self).__name__} has no value")

    def gradient(self, inputs: Any) -> Any:
        return ops.ones_like(inputs)

    def surrogate(self, x: Any, axis: Any = None) -> Any:
        """The NumPy reference of `gradient`."""
        return np.ones_like(x)


class ScaledIntegerQuantizer(StochasticQuantizer):
    """Integers times a scale, which is constant or computed from each channel.

    A subclass defines `parts`, which computes the integers and the scale, and
    `reference_parts`, its NumPy reference without noise.
    """

    alpha: Alpha = None

    @property
    def automatic(self) -> bool:
        """True if the scale is computed from each channel of a tensor."""
        return isinstance(self.alpha, str)

    @property
    def factor(self) -> float:
        """`alpha` in float32 if it is a number, else 1."""
        return float(np.float32(self.alpha)) if isinstance(self.alpha, float) else 1.0

    def parts(self, x: Any, noise: Any, channel_axis: Any) -> tuple[Any, Any]:
        """The integers and the scale of a float32 tensor; the value is their product."""
        raise NotImplementedError

    def reference_parts(self, x: Any, axis: Any) -> tuple[Any, Any]:
        """The NumPy reference of `parts`, without noise."""
        raise NotImplementedError

    def value(self, inputs: Any, noise: Any = None, channel_axis: Any = -1) -> Any:
        integers, scale = self.parts(wide(inputs), noise, channel_axis)
        return ops.cast(integers * scale, inputs.dtype)

    def affine(self, inputs: Any, channel_axis: Any = -1) -> tuple[Any, int]:
        return self.parts(wide(inputs), None, channel_axis)[1], 0

    def scales_of(self, shape: Any, channel_axis: Any = -1) -> int:
        return super().scales_of(shape, channel_axis) if self.automatic else 0

    @property
    def bits_of_each_scale(self) -> int:  # type: ignore[override]
        return EXPONENT_BITS if self.alpha == "auto_po2" else SCALE_BITS

    def reference(self, x: Any, axis: Any = None) -> Any:
        """The NumPy reference of `value`."""
        integers, scale = self.reference_parts(wide_array(x), axis)
        return (integers * scale).astype(x.dtype)

    def level_traits(self, integers: Sequence[int], scale: float, **others: Any) -> Traits:
        """Traits for all integers in ascending order and the scale without alpha."""
        automatic = self.automatic
        unit = np.float32(1 if automatic else scale * self.factor)
        few = len(integers) <= 256
        numbers = np.asarray(integers if few else (integers[0], integers[-1]), np.float32)
        levels = tuple(float(level) for level in numbers * unit)
        return Traits(
            levels=levels if few else None,
            range=(levels[0], levels[-1]),
            monotone=True,
            stochastic=self.draws,
            reference=self.reference,
            surrogate=self.surrogate,
            **{
                "elementwise": not automatic,
                "scaled": automatic,
                "channelwise": automatic,
                **others,
            },
        )


class TanhGradient(ScaledIntegerQuantizer):
    """A quantizer with the gradient of tanh without an alpha, else that of the identity."""

    def gradient(self, inputs: Any) -> Any:
        if self.alpha is not None:
            return ops.ones_like(inputs)
        return ops.cast(1 - ops.square(ops.tanh(wide(inputs))), inputs.dtype)

    def surrogate(self, x: Any, axis: Any = None) -> Any:
        if self.alpha is not None:
            return np.ones_like(x)
        return (1 - np.tanh(wide_array(x)) ** 2).astype(x.dtype)


def rounded(x: Any, noise: Any) -> Any:
    """Round to the nearest integer, ties to even; with noise to a random neighbour."""
    if noise is None:
        return ops.round(x)
    below = ops.floor(x)
    return below + ops.cast(ops.greater(x - below, ops.cast(noise, x.dtype)), x.dtype)


def one_from(x: Any, threshold: Any, other: float) -> Any:
    """1 where x >= threshold, else `other`; NaN stays NaN."""
    value = ops.where(
        ops.greater_equal(x, threshold), 1.0, ops.where(ops.isnan(x), x, other)
    )
    return ops.cast(value, x.dtype)


def sign(x: Any, other: float = -1.0) -> Any:
    """1 where x >= 0, else `other`; subnormal numbers count as 0, and NaN stays NaN."""
    subnormal = ops.less(ops.abs(x), tiny(x))
    return one_from(ops.where(subnormal, ops.zeros_like(x), x), 0, other)


def reference_sign(x: Any, other: float = -1.0) -> Any:
    """The NumPy reference of `sign`."""
    return np.where(np.isnan(x), x, np.where(x > -np.finfo(x.dtype).tiny, 1, other))


def leaky_slope(x: Any, negative_slope: float, top: float | None) -> Any:
    """The slope of a ReLU: `negative_slope` up to 0, then 1, and 0 above `top`."""
    slope = ops.where(ops.greater(x, 0), 1.0, negative_slope)
    if top is not None:
        slope = ops.where(ops.less_equal(x, top), slope, 0.0)
    return ops.cast(slope, x.dtype)


def reference_leaky_slope(x: Any, negative_slope: float, top: float | None) -> Any:
    """The NumPy reference of `leaky_slope`."""
    slope = np.where(x > 0, 1, negative_slope)
    return slope if top is None else slope * (x <= wide_array(x).dtype.type(top))


def leaky_support(negative_slope: float, top: float | None) -> Any:
    """The interval outside of which the slope of a ReLU is 0; None if unbounded."""
    if negative_slope and top is None:
        return None
    return -np.inf if negative_slope else 0.0, np.inf if top is None else top
