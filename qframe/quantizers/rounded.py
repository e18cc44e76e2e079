"""The state that `qframe.round_weights` adds to the quantizers of weights and biases."""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops
from numpy.typing import NDArray

from qframe import quantizers
from qframe.errors import ArgumentError
from qframe.quantizers.arithmetic import wide, with_gradient
from qframe.quantizers.base import Quantizer
from qframe.quantizers.channels import ChannelAxis
from qframe.quantizers.groups import Groups
from qframe.quantizers.integers import Integers
from qframe.quantizers.surrogate import clip_through
from qframe.quantizers.traits import Traits


class _Around(Quantizer):
    """A quantizer of a weight that adds a state to another one, or to none."""

    inner: Any

    def _traits(self, **others: Any) -> Traits:
        """The traits of the other quantizer that hold around it too, and further ones."""
        inner = self.inner.traits
        return Traits(
            levels=inner.levels,
            range=inner.range,
            scaled=inner.scaled,
            channelwise=inner.channelwise,
            updates=True,
            **others,
        )

    def _build_inner(self, shape: tuple[int, ...]) -> None:
        """Build the other quantizer, in the slot of a weight."""
        if self.batched or None in shape:
            raise ArgumentError(
                f"{self!r} is for weights, each of which has a state. Give an input or an "
                f"output the quantizer itself: {self.parameters['quantizer']!r}."
            )
        if self.inner is None:
            return
        self.inner.channel_axis, self.inner.batched = self.channel_axis, self.batched
        if not self.inner.built:
            self.inner.build(shape)

    def _axes(self, channel_axis: ChannelAxis) -> dict[str, Any]:
        """The axis of the channels, if the other quantizer takes it."""
        return {"channel_axis": channel_axis} if self.inner.traits.channelwise else {}


class Rounded(_Around):
    r"""The fixed grid of another quantizer, and an offset for each number.

    .. math:: q(x) = s \left( \min\left(\max\left(\left\lfloor \frac{x + o}{s} \right\rceil
        + z, l\right), h\right) - z \right)

    .. math:: \frac{dq}{dx} = 1 \text{ where } l - \tfrac{1}{2} \le (x + o) / s + z \le
        h + \tfrac{1}{2} \text{, else } 0

    `qframe.round_weights` sets the scale s, the zero point z and the offset o, which
    carries each weight to the level that a rounder chose, and leaves the weights as they
    are. So training goes on from the chosen levels, and `qframe.strip` gives back the
    float weights. Until then, q is the other quantizer.

    Args:
        quantizer: the identifier of the other quantizer, whose values are evenly spaced.

    Raises:
        ArgumentError: it is not the identifier of such a quantizer.

    Example:
        >>> import qframe as qf
        >>> q = qf.quantizers.Rounded("integer(bits=3)")  # a range of 3 is a step of 1
        >>> [float(v) for v in q([0.4, -0.6, 2.5, 3.0])]
        [0.0, -1.0, 2.0, 3.0]
    """

    def __init__(self, quantizer: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.inner = _inner("Rounded", quantizer)
        self.quantizer = _text(quantizer)
        levels = self.inner.integer_levels()
        if levels is None:
            raise ArgumentError(
                f"{self.quantizer} has no evenly spaced levels to round to. Give a "
                "quantizer such as 'integer(bits=4)'."
            )
        self.levels = levels
        self.precision = self.inner.precision

    @property
    def traits(self) -> Traits:
        return self._traits(trainable=self.inner.traits.trainable)

    def build(self, input_shape: Any) -> None:
        shape = tuple(input_shape)
        self._build_inner(shape)
        groups = self.groups_of(shape, self.channel_axis)
        if groups is not None:
            scales = groups.compact(np.empty(shape, bool)).shape
        else:
            axes = self._axes(self.channel_axis)
            affine: Any = self.inner.affine(ops.zeros(shape), **axes)
            scales = np.broadcast_shapes(*(np.shape(each) for each in affine))
        self.offset = self._state("offset", shape)
        self.scale = self._state("scale", scales)
        self.zero_point = self._state("zero_point", scales)
        self.started = self._state("started", ())

    def _state(self, name: str, shape: tuple[int, ...]) -> Any:
        return self.add_weight(
            name=name, shape=shape, initializer="zeros", trainable=False, dtype="float32"
        )

    @property
    def folded_variables(self) -> list[Any]:
        return self.variables

    def groups_of(
        self, shape: tuple[int, ...], channel_axis: ChannelAxis = -1
    ) -> Groups | None:
        return self.inner.groups_of(shape, channel_axis)

    def bits_of_scales(self, shape: tuple[int, ...], channel_axis: ChannelAxis = -1) -> int:
        return self.inner.bits_of_scales(shape, channel_axis)

    def integer_levels(self) -> range:
        return self.levels

    def fits(self, shape: Any, channel_axis: ChannelAxis = -1) -> bool:
        return self.inner.fits(shape, channel_axis)

    def call(self, inputs: Any, channel_axis: ChannelAxis = -1) -> Any:
        axes = self._axes(channel_axis)
        if self.inner.variables:
            # JAX takes no update of a variable out of a branch.
            value = self.inner(inputs, **axes)
            on_grid = self._on_grid(inputs, channel_axis)
            return ops.where(self._is_set(), on_grid, value)
        # Not `where`, since the other quantizer may search for its range.
        return ops.cond(
            self._is_set(),
            lambda: self._on_grid(inputs, channel_axis),
            lambda: self.inner(inputs, **axes),
        )

    def _on_grid(self, inputs: Any, channel_axis: ChannelAxis) -> Any:
        x = wide(inputs)
        x = x + ops.cast(self.offset, x.dtype)
        grid = self._grid(tuple(inputs.shape), channel_axis)
        scale, zero = (ops.cast(each, x.dtype) for each in grid)
        # A scale of 0 is that of numbers that are all 0.
        divisor = ops.where(ops.equal(scale, 0), ops.ones_like(scale), scale)
        first, stride, last = self.levels[0], self.levels.step, self.levels[-1]
        steps = ops.round((x / divisor + zero - first) / stride)
        steps = ops.clip(steps, 0, len(self.levels) - 1) * stride + first
        low, high = first - zero - stride / 2, last - zero + stride / 2
        inside = clip_through(x, low * scale, high * scale)
        return ops.cast(with_gradient((steps - zero) * scale, inside), inputs.dtype)

    def _is_set(self) -> Any:
        return ops.convert_to_tensor(self.started) > 0

    def _grid(self, shape: tuple[int, ...], channel_axis: ChannelAxis) -> tuple[Any, Any]:
        """The scale and the zero point, broadcastable to a weight."""
        groups = self.groups_of(shape, channel_axis)
        scale, zero = map(ops.convert_to_tensor, (self.scale, self.zero_point))
        if groups is None:
            return scale, zero
        return groups.spread(scale, shape, ops), groups.spread(zero, shape, ops)

    def affine(self, inputs: Any, channel_axis: ChannelAxis = -1) -> Any:
        axes, shape = self._axes(channel_axis), tuple(inputs.shape)

        def before() -> Any:
            affine: Any = self.inner.affine(inputs, **axes)
            grid = self._grid(shape, channel_axis)
            return tuple(
                ops.broadcast_to(ops.cast(each, "float32"), own.shape)
                for each, own in zip(affine, grid, strict=True)
            )

        return ops.cond(self._is_set(), lambda: self._grid(shape, channel_axis), before)

    def integers(self, inputs: Any, channel_axis: ChannelAxis = -1) -> Integers:
        # The values of 16 bits are beside the grid, whose scale is of 32.
        return super().integers(wide(ops.convert_to_tensor(inputs)), channel_axis)

    def set(
        self,
        weight: NDArray[Any],
        integers: NDArray[Any],
        scale: NDArray[Any],
        zero_point: NDArray[Any],
    ) -> None:
        """Fix the grid, and the offset of a weight to integers on it.

        Args:
            weight: the weight, of the shape that it was built with.
            integers: its integers, each one of `integer_levels`.
            scale: the scale, as `affine` of the other quantizer states it.
            zero_point: the zero point, of the same kind.
        """
        groups = self.groups_of(weight.shape, self.channel_axis)
        scale, zero_point = (np.asarray(each, np.float32) for each in (scale, zero_point))
        values = scale * (integers.astype(np.float32) - zero_point)
        # In float64, since float32 cannot hold the distance of far numbers.
        self.offset.assign(values.astype(np.float64) - weight)
        for variable, each in ((self.scale, scale), (self.zero_point, zero_point)):
            if groups is not None:
                each = groups.compact(np.broadcast_to(each, weight.shape))
            variable.assign(np.broadcast_to(each, variable.shape))
        self.started.assign(1.0)


class Corrected(_Around):
    r"""A bias plus a correction for each number, behind another quantizer or none.

    .. math:: q(x) = p(x + c), \quad \frac{dq}{dx} = p'(x + c)

    `qframe.round_weights` sets the correction c, which is zero until then, and leaves the
    bias as it is; p is the other quantizer, or the identity.

    Args:
        quantizer: the identifier of the other quantizer; None for the identity.

    Raises:
        ArgumentError: it is not the identifier of a quantizer.

    Example:
        >>> import numpy as np, qframe as qf
        >>> q = qf.quantizers.Corrected(None)
        >>> q.build((2,))
        >>> _ = q.correction.assign(np.array([0.5, 0.0]))
        >>> [float(v) for v in q([1.0, 1.0])]
        [1.5, 1.0]
    """

    def __init__(self, quantizer: str | None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.inner = None if quantizer is None else _inner("Corrected", quantizer)
        self.quantizer = None if quantizer is None else _text(quantizer)
        self.precision = None if self.inner is None else self.inner.precision

    @property
    def traits(self) -> Traits:
        if self.inner is None:
            return Traits(monotone=True, updates=True)
        return self._traits(sums=self.inner.traits.sums)

    def build(self, input_shape: Any) -> None:
        self._build_inner(tuple(input_shape))
        self.correction = self.add_weight(
            name="correction", shape=input_shape, initializer="zeros", trainable=False
        )

    @property
    def folded_variables(self) -> list[Any]:
        return [self.correction]

    def fits(self, shape: Any, channel_axis: ChannelAxis = -1) -> bool:
        return self.inner is None or self.inner.fits(shape, channel_axis)

    def call(
        self,
        inputs: Any,
        channel_axis: ChannelAxis = -1,
        step: Any = None,
        shift: Any = 0.0,
    ) -> Any:
        x = inputs + ops.cast(self.correction, inputs.dtype)
        if self.inner is None:
            return x
        return self.inner(x, **self._axes(channel_axis), **self._sums(step, shift))

    def _sums(self, step: Any, shift: Any) -> dict[str, Any]:
        """The grid of the sums, if the other quantizer takes it."""
        return {"step": step, "shift": shift} if self.inner.traits.sums else {}

    def affine(self, inputs: Any, channel_axis: ChannelAxis = -1) -> Any:
        if self.inner is None:
            return None
        return self.inner.affine(inputs, **self._axes(channel_axis))

    def integers(
        self,
        inputs: Any,
        channel_axis: ChannelAxis = -1,
        step: Any = None,
        shift: Any = 0.0,
    ) -> Integers:
        if self.inner is None:
            return super().integers(inputs, channel_axis)
        corrected = ops.convert_to_tensor(inputs)
        corrected = corrected + ops.cast(self.correction, corrected.dtype)
        return self.inner.integers(corrected, channel_axis, **self._sums(step, shift))


def _text(quantizer: Any) -> str:
    return quantizer if isinstance(quantizer, str) else str(quantizer.identifier)


def _inner(owner: str, identifier: Any) -> Quantizer:
    """A new quantizer for the argument of another one."""
    inner = quantizers.get(identifier) if isinstance(identifier, str) else identifier
    if not isinstance(inner, Quantizer) or isinstance(inner, (Rounded, Corrected)):
        raise ArgumentError(
            f"quantizer of {owner} must be the identifier of another quantizer, such as "
            f"'integer(bits=4)', found {identifier!r}."
        )
    return inner
