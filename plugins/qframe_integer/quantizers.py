"""The affine quantizer of integer hardware."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from qframe.errors import ArgumentError
from qframe.quantizers import (
    Groups,
    Quantizer,
    Traits,
    axes_within_channels,
    clip_through,
)
from qframe.quantizers.arithmetic import as_array, wide, wide_array, with_gradient
from qframe.quantizers.channels import shape_of_state
from qframe.quantizers.integers import SCALE_BITS
from qframe.quantizers.ranges import GATHERS, GatheredRange, checked_ends
from qframe.validation import (
    boolean,
    effective,
    integer_within,
    momentum_number,
    one_of,
    percentile_number,
    seed_number,
)
from qframe_integer import groups, statistics
from qframe_integer.rounding import MODES, REFERENCES, STOCHASTIC

_GRANULARITIES = ("tensor", "channel", "group")
_PERCENTILE, _MOMENTUM = 99.9, 0.99
_SMALLEST_SCALE = 1e-30


class Integer(Quantizer):
    r"""Integers with a scale and a zero point.

    .. math:: q(x) = s \left( \min\left(\max\left(\left\lfloor x / s \right\rceil + z,
        l\right), h\right) - z \right)

    .. math:: \frac{dq}{dx} = 1 \text{ where } l - \tfrac{1}{2} \le x / s + z \le
        h + \tfrac{1}{2} \text{, else } 0

    The integers l to h are :math:`-2^{b-1}` to :math:`2^{b-1} - 1`. From the range of the
    numbers, [a, b] with a ≤ 0 ≤ b: if symmetric :math:`s = \max(-a, b) / h` and z = 0, else
    :math:`s = (b - a) / (h - l)` and z is the nearest integer to :math:`l - a / s`. So 0.0
    is exactly an integer, as zero padding requires. A range of zeros gives zeros. No
    gradient flows through the range.

    Args:
        bits: b, an integer from 2 to 16. Default 8.
        symmetric: whether z is 0. Default True.
        granularity: one range for the ``"tensor"``, for each ``"channel"``, or for each
            ``"group"`` of numbers in a channel. The layer provides the channel axis.
            Groups are consecutive numbers of a channel: those of a convolution row by
            row, pixel by pixel, with the input channels together; the last group may be
            smaller. In the slot of an input or output a group is taken from the channels
            of one position of one example. Default ``"tensor"``.
        group_size: the size of a group, for groups. Default None.
        range: how the range of a tensor is computed: ``"minmax"``, its smallest and
            largest number; ``"percentile"``; or ``"mse"``, the fraction of it, of 80
            candidates, with the smallest mean squared error. Default ``"minmax"``.
        percentile: the percentage of the numbers below the upper end of the range, and
            above its lower end, above 50 and up to 100. For that `range` only; default
            None is 99.9.
        gather: None computes the range of each tensor, which suits weights.
            ``"moving_average"`` and ``"widest"`` gather the range of activations over the
            training batches and keep it for inference. `qframe.calibrate` sets it.
            Default None.
        momentum: of the moving average, from 0 to 1, 1 excluded. For that `gather` only;
            default None is 0.99.
        narrow_range: exclude the integer :math:`-2^{b-1}`. Default False.
        rounding: ``"half_even"``, ``"half_up"``, ``"half_away"`` (from zero), ``"floor"``,
            ``"ceil"``, ``"toward_zero"``, or ``"stochastic"``, which rounds up with the
            probability of the fraction in training, and as ``"half_even"`` in inference.
            Default ``"half_even"``.
        seed: of stochastic rounding, an integer from 0 to 2147483647, or None for the one
            of `keras.utils.set_random_seed`. Default None.

    Raises:
        ArgumentError: an argument has another value, or no effect; in a call, the tensor
            lacks the channel axis, or the number of elements of a channel is unknown.

    Example:
        >>> import qframe as qf
        >>> q = qf.quantizers.Integer(bits=3)  # a range of 3 is a step of 1
        >>> [float(v) for v in q([0.4, -0.6, 2.5, 3.0])]
        [0.0, -1.0, 2.0, 3.0]

    Paper: Jacob et al., 2017, https://arxiv.org/abs/1712.05877
    """

    def __init__(
        self,
        bits: int = 8,
        symmetric: bool = True,
        granularity: str = "tensor",
        group_size: int | None = None,
        range: str = "minmax",
        percentile: float | None = None,
        gather: str | None = None,
        momentum: float | None = None,
        narrow_range: bool = False,
        rounding: str = "half_even",
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.bits = integer_within("Integer", "bits", bits, 2, 16)
        self.symmetric = boolean("Integer", "symmetric", symmetric)
        self.granularity = one_of("Integer", "granularity", granularity, _GRANULARITIES)
        self.group_size = group_size
        if group_size is not None:
            _effective("group_size", group_size, "granularity", granularity, "group")
            self.group_size = integer_within("Integer", "group_size", group_size, 1, 2**31)
        elif granularity == "group":
            raise ArgumentError(
                "granularity='group' of Integer needs the size of a group. Write for "
                "example Integer(granularity='group', group_size=32)."
            )
        self.range = one_of("Integer", "range", range, statistics.RANGES)
        self.percentile = percentile
        if percentile is not None:
            _effective("percentile", percentile, "range", range, "percentile")
            self.percentile = percentile_number("Integer", percentile)
        if gather is not None:
            one_of("Integer", "gather", gather, GATHERS)
        if gather is not None and granularity == "group":
            raise ArgumentError(
                f"gather={gather!r} of Integer is for activations, and groups are for "
                "weights. Write granularity='tensor' or 'channel'."
            )
        self.gather = gather
        self.momentum = momentum
        if momentum is not None:
            _effective("momentum", momentum, "gather", gather, "moving_average")
            self.momentum = momentum_number("Integer", momentum)
        self.narrow_range = boolean("Integer", "narrow_range", narrow_range)
        self.rounding = one_of("Integer", "rounding", rounding, MODES)
        self.seed = seed_number("Integer", seed)
        if rounding == STOCHASTIC:
            self.generator = keras.random.SeedGenerator(seed)
        elif seed is not None:
            _effective("seed", seed, "rounding", rounding, STOCHASTIC)
        self.precision = self.bits

    @property
    def low(self) -> int:
        """The smallest integer."""
        return -(2 ** (self.bits - 1)) + self.narrow_range

    @property
    def high(self) -> int:
        """The largest integer."""
        return int(2 ** (self.bits - 1)) - 1

    @property
    def traits(self) -> Traits:
        per_tensor = self.granularity == "tensor"
        low, high = (self.low, self.high) if self.symmetric else (None, None)
        integers = None
        if low is not None and high is not None and self.bits <= 8:
            integers = tuple(float(i) for i in np.arange(low, high + 1))
        return Traits(
            levels=integers,
            range=None if low is None or high is None else (float(low), float(high)),
            elementwise=self.gather is not None and per_tensor,
            monotone=per_tensor,
            stochastic=self.rounding == STOCHASTIC,
            updates=self.gather is not None,
            ranged=self.gather is not None,
            scaled=True,
            channelwise=self.gather is None and not per_tensor,
            reference=self.reference,
            surrogate=self.surrogate,
        )

    def build(self, input_shape: Any) -> None:
        if self.gather is None:
            return
        shape: tuple[int, ...] = ()
        if self.granularity == "channel":
            shape = shape_of_state(
                input_shape,
                self.channel_axis,
                f"{self!r} gathers a range",
                "granularity='tensor'",
            )
        momentum = _MOMENTUM if self.momentum is None else self.momentum
        self.gathered = GatheredRange(self, shape, self.gather, momentum)

    def integer_levels(self) -> range:
        return range(self.low, self.high + 1)

    def groups_of(self, shape: Any, channel_axis: Any = -1) -> Groups | None:
        if self.group_size is None:
            return None
        return Groups(self._axes(len(shape), channel_axis), self.group_size)

    @property
    def bits_of_each_scale(self) -> int:  # type: ignore[override]
        return SCALE_BITS if self.symmetric else SCALE_BITS + self.bits

    def fits(self, shape: Any, channel_axis: Any = -1) -> bool:
        self._axes(len(shape), channel_axis)  # raises if the tensor lacks one
        return True

    def call(self, inputs: Any, channel_axis: Any = -1, training: bool = False) -> Any:
        x, axes, last, join = self._split(wide(inputs), channel_axis)
        value = self._on_grid(x, *self._grid(x, axes, last, training), training)
        return ops.cast(join(value), inputs.dtype)

    def _split(
        self, x: Any, channel_axis: Any, xp: Any = ops
    ) -> tuple[Any, tuple[int, ...], int | None, Callable[[Any], Any]]:
        """The tensor, by groups if there are any, and the axes over which a range applies.

        Then the size of the last group, and the inverse of the split.
        """
        grouping = self.groups_of(x.shape, channel_axis)
        if grouping is None:
            return x, self._axes(len(x.shape), channel_axis), None, lambda y: y
        x, last, join = groups.split(x, grouping, repr(self), xp)
        return x, (len(x.shape) - 1,), last, join

    def _axes(self, rank: int, channel_axis: Any) -> tuple[int, ...]:
        """The axes over which a range applies, or along which groups are consecutive."""
        if self.granularity == "tensor":
            channel_axis = None
        elif self.gather is not None:
            channel_axis = self.channel_axis
        within = axes_within_channels(rank, channel_axis)
        if self.granularity == "group" and self.batched:
            # The next layer sums over the channels of activations.
            return tuple(axis for axis in range(rank) if axis not in within)
        return within

    def _on_grid(self, x: Any, scale: Any, zero: Any, training: bool = False) -> Any:
        low, high = self.low - zero, self.high - zero
        steps = x / scale
        if training and self.rounding == STOCHASTIC:
            noise = keras.random.uniform(ops.shape(steps), seed=self.generator)
            steps = ops.floor(steps + ops.cast(noise, steps.dtype))
        else:
            steps = MODES[self.rounding](steps)
        # Numbers that round to an end of the grid count as inside. Otherwise the last bit
        # of the scale would decide whether the largest number of a range has a gradient.
        inside = clip_through(x, (low - 0.5) * scale, (high + 0.5) * scale)
        return with_gradient(ops.clip(steps, low, high) * scale, inside)

    def _grid(
        self, x: Any, axes: Sequence[int], last: int | None, training: bool = False
    ) -> tuple[Any, Any]:
        """The scale and the zero point for a tensor."""
        x = ops.stop_gradient(x)
        if self.range == "mse":
            low, high = statistics.best_ends(
                x, axes, lambda a, b: self._on_grid(x, *self._grid_of(a, b))
            )
        else:
            low, high = statistics.ends(x, axes, self._percentile(), last)
        if self.gather is not None:
            shape = self.gathered.low.shape
            low, high = (ops.reshape(end, shape) if axes else end for end in (low, high))
            low, high = self.gathered(low, high, training)
        return self._grid_of(ops.cast(low, x.dtype), ops.cast(high, x.dtype))

    def _percentile(self) -> float | None:
        """The percentile of the ends; None for the smallest and the largest number."""
        if self.range != "percentile":
            return None
        return _PERCENTILE if self.percentile is None else self.percentile

    def _grid_of(self, low: Any, high: Any) -> tuple[Any, Any]:
        low, high = ops.minimum(low, 0), ops.maximum(high, 0)
        if self.symmetric:
            scale = ops.maximum(-low, high) / self.high
        else:
            scale = (high - low) / (self.high - self.low)
        # A range of 0 would divide by 0, and some devices flush a subnormal scale to 0.
        scale = ops.maximum(scale, _SMALLEST_SCALE)
        if self.symmetric:
            return scale, ops.zeros_like(scale)
        zero = ops.round(self.low - low / scale)
        return scale, ops.clip(zero, self.low, self.high)

    def affine(self, inputs: Any, channel_axis: Any = -1) -> tuple[Any, Any]:
        x, axes, last, join = self._split(wide(inputs), channel_axis)
        scale, zero = self._grid(x, axes, last)
        if self.granularity == "group":
            scale, zero = (join(each * ops.ones_like(x)) for each in (scale, zero))
        return scale, zero

    def set_range(self, low: Any, high: Any) -> None:
        """Set the gathered range, from which training continues."""
        if self.gather is None:
            super().set_range(low, high)
        low, high = checked_ends(self, low, high)
        self.gathered.set(low, high)

    def range_shape(self) -> tuple[int, ...]:
        return tuple(self.gathered.low.shape) if self.gather is not None else ()

    def grid_of_range(self, low: Any, high: Any) -> tuple[Any, Any, int]:
        scale, zero = self._reference_grid(np.asarray(low), np.asarray(high))
        first, last = ((end - zero) * scale for end in (self.low, self.high))
        return first, last, self.high - self.low

    def freeze(self, frozen: bool = True) -> None:
        """Keep the gathered range unchanged in training, or resume gathering.

        Raises:
            ArgumentError: this quantizer does not gather a range, or is not built.
        """
        if self.gather is None or not self.built:
            raise ArgumentError(
                f"{self!r} has no gathered range to freeze. Give it a gather, and call its "
                "layer once."
            )
        self.gathered.frozen.assign(float(frozen))

    # References in NumPy.

    def reference(self, x: Any, axis: Any = -1) -> Any:
        """The NumPy reference of the values."""
        wide, scale, zero, join = self._reference_parts(x, axis)
        steps = REFERENCES[self.rounding](wide / scale)
        value = np.clip(steps, self.low - zero, self.high - zero) * scale
        return join(value).astype(x.dtype)

    def surrogate(self, x: Any, axis: Any = -1) -> Any:
        """The NumPy reference of the gradient."""
        wide, scale, zero, join = self._reference_parts(x, axis)
        low, high = (self.low - zero - 0.5) * scale, (self.high - zero + 0.5) * scale
        return join((wide >= low) & (wide <= high)).astype(x.dtype)

    def _reference_parts(self, x: Any, axis: Any) -> tuple[Any, Any, Any, Any]:
        """The split tensor, its scale and zero point, and the inverse of the split."""
        wide, axes, last, join = self._split(wide_array(x), axis, np)
        if self.range == "mse":
            scale, zero = map(as_array, self._grid(ops.convert_to_tensor(wide), axes, last))
            return wide, scale, zero, join
        low, high = statistics.reference_ends(wide, axes, self._percentile(), last)
        if self.gather is not None:
            shape = tuple(self.gathered.low.shape)
            low, high = self.gathered(low.reshape(shape), high.reshape(shape))
            low, high = (as_array(end).astype(wide.dtype) for end in (low, high))
        return wide, *self._reference_grid(low, high), join

    def _reference_grid(self, low: Any, high: Any) -> tuple[Any, Any]:
        """The NumPy reference of the scale and the zero point for a range."""
        low, high = np.minimum(low, 0), np.maximum(high, 0)
        span = np.maximum(-low, high) / self.high
        if not self.symmetric:
            span = (high - low) / (self.high - self.low)
        scale = np.maximum(span, span.dtype.type(_SMALLEST_SCALE))
        zero = np.zeros_like(scale)
        if not self.symmetric:
            zero = np.clip(np.rint(self.low - low / scale), self.low, self.high)
        return scale, zero


_effective = functools.partial(effective, "Integer")
