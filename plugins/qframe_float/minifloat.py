"""Minifloats: the formats of machine learning, and arbitrary ones."""

from __future__ import annotations

import functools
import math
from typing import Any

import keras
import numpy as np
from keras import ops

from qframe.errors import ArgumentError
from qframe.quantizers import Traits, axes_within_channels, straight_through
from qframe.quantizers.arithmetic import wide, wide_array
from qframe.quantizers.integers import EXPONENT_BITS, SCALE_BITS
from qframe.validation import boolean, effective, integer_within, one_of, seed_number
from qframe_float.formats import SPECIALS, Format
from qframe_float.scaled import FloatQuantizer, magnitudes, power_of


class SmallFloat(FloatQuantizer):
    """Base of `Minifloat` and its special cases."""

    def __init__(
        self,
        scale: str = "none",
        power_of_two: bool = False,
        rounding: str = "nearest",
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        owner = type(self).__name__
        self.scale = one_of(owner, "scale", scale, ("none", "tensor", "channel"))
        self.power_of_two = boolean(owner, "power_of_two", power_of_two)
        if power_of_two:
            effective(owner, "power_of_two", True, "scale", scale, "tensor", "channel")
        self.rounding = one_of(owner, "rounding", rounding, ("nearest", "stochastic"))
        self.seed = seed_number(owner, seed)
        if seed is not None:
            effective(owner, "seed", seed, "rounding", rounding, "stochastic")
        if self.rounding == "stochastic":
            self.generator = keras.random.SeedGenerator(seed)

    @property
    def traits(self) -> Traits:
        scaled = self.scale != "none"
        # With a scale the levels are the integers of `affine`.
        unit = 1.0 if scaled else self.format.unit
        end = self.format.signed_multiples[-1] * unit
        levels = tuple(multiple * unit for multiple in self.format.signed_multiples)
        return Traits(
            levels=levels if self.format.bits <= 8 else None,
            range=(-end, end),
            support=None if scaled else (-end, end),
            elementwise=not scaled,
            idempotent=True,
            monotone=True,
            odd=True,
            stochastic=self.rounding == "stochastic",
            scaled=scaled,
            channelwise=self.scale == "channel",
            reference=self.reference,
            surrogate=self.surrogate,
        )

    def call(self, inputs: Any, channel_axis: Any = -1, training: bool = False) -> Any:
        noise = None
        if training and self.rounding == "stochastic":
            dtype = keras.backend.standardize_dtype(wide(inputs).dtype)
            noise = keras.random.uniform(
                ops.shape(inputs), dtype=dtype, seed=self.generator
            )
        value = functools.partial(self.value, channel_axis=channel_axis, noise=noise)
        return straight_through(value, self.gradient)(inputs)

    def gradient(self, inputs: Any, channel_axis: Any = -1) -> Any:
        if self.scale != "none":
            return ops.ones_like(inputs)
        inside = ops.less_equal(ops.abs(wide(inputs)), self.format.largest)
        return ops.cast(inside, inputs.dtype)

    def scales(self, inputs: Any, channel_axis: Any = -1) -> Any:
        if self.scale == "none":
            return 1.0
        largest = magnitudes(wide(inputs))
        if axes := self._axes(len(inputs.shape), channel_axis):
            largest = ops.max(largest, axis=axes, keepdims=True, initial=0.0)
        if self.power_of_two:
            low = power_of(largest) * 2.0**-self.format.largest_exponent
            saturates = ops.greater(largest, low * self.format.largest)
            scales = ops.where(saturates, 2 * low, low)
        else:
            # Multiplied by the inverse, since compilers round a division differently.
            scales = largest * (1 / self.format.largest)
        return self._clipped(scales, inputs.dtype)

    def reference_scales(self, x: Any, axis: Any = None) -> Any:
        if self.scale == "none":
            return x.dtype.type(1)
        axes = self._axes(x.ndim, axis)
        largest = np.abs(np.nan_to_num(x)).max(axis=axes, keepdims=True, initial=0.0)
        if self.power_of_two:
            fraction, exponent = np.frexp(largest)
            limit, at_limit = np.frexp(self.format.largest)
            scales = np.ldexp(x.dtype.type(1), exponent - at_limit + (fraction > limit))
        else:
            scales = largest * x.dtype.type(1 / self.format.largest)
        return np.clip(scales, *self._limits(np.finfo(x.dtype), x.dtype.name))

    def scales_of(self, shape: Any, channel_axis: Any = -1) -> int:
        if self.scale == "none":
            return 0
        within = self._axes(len(shape), channel_axis)
        return math.prod(size for axis, size in enumerate(shape) if axis not in within)

    @property
    def bits_of_each_scale(self) -> int:  # type: ignore[override]
        return EXPONENT_BITS if self.power_of_two else SCALE_BITS

    def surrogate(self, x: Any, axis: Any = None) -> Any:
        """The NumPy reference of `gradient`."""
        inside = np.abs(wide_array(x)) <= self.format.largest
        return (inside | (self.scale != "none")).astype(x.dtype)

    def _axes(self, rank: int, channel_axis: Any) -> tuple[int, ...]:
        """The axes over which a scale applies."""
        if self.scale == "channel":
            # With a scale for each number, every number would become the largest.
            return axes_within_channels(rank, channel_axis) or tuple(range(rank))
        return tuple(range(rank))


class Minifloat(SmallFloat):
    r"""Rounding to a float with e exponent bits and m mantissa bits, with subnormals.

    .. math:: q(x) = s d \left\lfloor \frac{y}{d} \right\rceil, \quad
        y = \min(\max(x / s, -h), h), \quad
        d = 2^{\max(\lfloor \log_2 |y| \rfloor, \, 2 - 2^{e-1}) - m}

    .. math:: \frac{dq}{dx} = 1 \text{ where } |x| \le h \text{, else } 0;
        \quad 1 \text{ everywhere with a scale}

    h is the largest number of the format, to which larger numbers and infinities saturate.
    Ties round to the even mantissa. NaN stays NaN, and subnormal inputs count as 0.

    A scale s is computed from each tensor, for activations from the whole batch. No
    gradient flows through it. It is the largest magnitude divided by h, or the smallest
    power of two that is at least that. It is clipped so that no value is subnormal or
    infinite in the dtype of the input: tensors below about 1e-30 become coarser, then
    zeros.

    Stochastic rounding draws one of the two neighbours in training, with the mean x. In
    inference it rounds to the nearest.

    Args:
        exponent_bits: e, an integer from 1 to 5. Default 4.
        mantissa_bits: m, an integer from 0 to 10. Default 3.
        specials: ``"none"`` if every bit pattern is a number, ``"nan"`` if the last one
            is NaN, ``"ieee"`` if those with the largest exponent are infinity and NaN.
            Default ``"nan"``.
        scale: ``"none"`` for s = 1, ``"tensor"`` for one scale, ``"channel"`` for one for
            each output channel. The layer provides the channel axis; a tensor without
            another axis has one scale. Default ``"none"``.
        power_of_two: restrict the scale to powers of two. Default False.
        rounding: ``"nearest"`` or ``"stochastic"``. Default ``"nearest"``.
        seed: of stochastic rounding, an integer from 0 to 2147483647, or None for the one
            of `keras.utils.set_random_seed`. Default None.

    Raises:
        ArgumentError: an argument has another value or no effect, or the format has no
            number except 0.

    Example:
        >>> import qframe as qf
        >>> q = qf.quantizers.Minifloat(exponent_bits=3, mantissa_bits=2, specials="none")
        >>> [float(v) for v in q([0.3, 1.1, 9.0, 100.0])]
        [0.3125, 1.0, 8.0, 28.0]

    Paper: Micikevicius et al., 2022, https://arxiv.org/abs/2209.05433
    """

    def __init__(
        self,
        exponent_bits: int = 4,
        mantissa_bits: int = 3,
        specials: str = "nan",
        scale: str = "none",
        power_of_two: bool = False,
        rounding: str = "nearest",
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        exponent = integer_within("Minifloat", "exponent_bits", exponent_bits, 1, 5)
        mantissa = integer_within("Minifloat", "mantissa_bits", mantissa_bits, 0, 10)
        specials = one_of("Minifloat", "specials", specials, SPECIALS)
        format = Format(exponent, mantissa, specials)
        if len(format.multiples) < 2:
            raise ArgumentError(
                f"Minifloat({exponent}, {mantissa}, {specials!r}) has no number but 0. "
                "Write specials='none', or give it more bits."
            )
        super().__init__(scale, power_of_two, rounding, seed, **kwargs)
        self.format = format
        self.precision = format.bits
        self.exponent_bits = exponent
        self.mantissa_bits = mantissa
        self.specials = specials


class Float8E4M3(SmallFloat):
    """FP8 with 4 bits of exponent and 3 of mantissa: up to 448, in steps from 2^-9.

    One pattern is NaN and none is infinite; also known as float8_e4m3fn. Formula, gradient,
    arguments and errors are those of `Minifloat`, with the format (4, 3, "nan").

    Example:
        >>> import qframe as qf
        >>> q = qf.quantizers.Float8E4M3()
        >>> [float(v) for v in q([0.3, 17.0, 19.0, -1000.0])]
        [0.3125, 16.0, 20.0, -448.0]

    Paper: Micikevicius et al., 2022, https://arxiv.org/abs/2209.05433
    """

    format = Format(4, 3, "nan")
    precision = format.bits


class Float8E5M2(SmallFloat):
    """FP8 with 5 bits of exponent and 2 of mantissa: up to 57344, in steps from 2^-16.

    Formula, gradient, arguments and errors are those of `Minifloat`, with the format
    (5, 2, "ieee"). It saturates, although it has patterns for infinity.

    Example:
        >>> import qframe as qf
        >>> q = qf.quantizers.Float8E5M2()
        >>> [float(v) for v in q([0.3, 17.0, 19.0, -1e6])]
        [0.3125, 16.0, 20.0, -57344.0]

    Paper: Micikevicius et al., 2022, https://arxiv.org/abs/2209.05433
    """

    format = Format(5, 2, "ieee")
    precision = format.bits


class Float6E2M3(SmallFloat):
    """FP6 with 2 bits of exponent and 3 of mantissa: up to 7.5, in steps from 1/8.

    Formula, gradient, arguments and errors are those of `Minifloat`, with the format
    (2, 3, "none").

    Example:
        >>> import qframe as qf
        >>> q = qf.quantizers.Float6E2M3()
        >>> [float(v) for v in q([0.3, 3.3, -20.0])]
        [0.25, 3.25, -7.5]

    Paper: Rouhani et al., 2023, https://arxiv.org/abs/2310.10537
    """

    format = Format(2, 3)
    precision = format.bits


class Float6E3M2(SmallFloat):
    """FP6 with 3 bits of exponent and 2 of mantissa: up to 28, in steps from 1/16.

    Formula, gradient, arguments and errors are those of `Minifloat`, with the format
    (3, 2, "none").

    Example:
        >>> import qframe as qf
        >>> q = qf.quantizers.Float6E3M2()
        >>> [float(v) for v in q([0.3, 3.3, -40.0])]
        [0.3125, 3.5, -28.0]

    Paper: Rouhani et al., 2023, https://arxiv.org/abs/2310.10537
    """

    format = Format(3, 2)
    precision = format.bits


class Float4E2M1(SmallFloat):
    """FP4 with 2 bits of exponent and 1 of mantissa: 0, 0.5, 1, 1.5, 2, 3, 4, 6.

    Formula, gradient, arguments and errors are those of `Minifloat`, with the format
    (2, 1, "none").

    Example:
        >>> import qframe as qf
        >>> q = qf.quantizers.Float4E2M1()
        >>> [float(v) for v in q([0.3, 2.4, 2.5, -7.0])]
        [0.5, 2.0, 2.0, -6.0]

    Paper: Rouhani et al., 2023, https://arxiv.org/abs/2310.10537
    """

    format = Format(2, 1)
    precision = format.bits
