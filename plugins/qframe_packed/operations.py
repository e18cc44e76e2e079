"""The operations of a packed model: what each is told, and what it returns for what.

To add one: a class here, named in `OPERATIONS`, and what it computes in `reference`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import attrs
import numpy as np

from qframe.errors import DataError
from qframe_packed.fields import Array, Choice, Integers, Number, Weights, is_whole, of
from qframe_packed.packing import Packed
from qframe_packed.values import LARGEST, Span, Value

_MOST = 2**16
_SIZES = Integers(1, _MOST, 2)
# Top, bottom, left, right.
_PADS = Integers(0, _MOST, 4)
_DIRECTION = Array(range(1, 2), "i", optional=True)


@attrs.frozen(eq=False)
class Operation:
    """What is done to tensors, and with which weights."""

    name: ClassVar[str]
    # How many tensors it takes; None: one or more.
    arity: ClassVar[int | None] = 1

    def infer(self, *inputs: Value) -> Value:
        """What it returns; raises `DataError` for inputs that it does not take."""
        raise NotImplementedError

    @property
    def weight_bits(self) -> int | None:
        """The bits of one of its weights; None where it has no kernel."""
        kernel = getattr(self, "kernel", None)
        if isinstance(kernel, Packed):
            return kernel.span.bits
        return None if kernel is None else 8 * int(kernel.dtype.itemsize)


def _product(kernel: Any, x: Value, count: int, pad: float = 0) -> Span | None:
    """The span of sums of products; None where they are floats."""
    if x.span is None or not isinstance(kernel, Packed):
        return None
    if not is_whole(pad):
        raise DataError(f"integers are padded with integers, and {pad} is none")
    return x.span.products(kernel.span, count, int(pad))


def _windows(
    x: Value, reach: tuple[int, ...], strides: tuple[int, ...], pads: tuple[int, ...]
) -> tuple[int, int]:
    """How many places a window has in each direction."""
    if len(x.shape) != 3:
        raise DataError(f"an image has 3 axes, found the shape {list(x.shape)}")
    found = []
    for axis in (0, 1):
        before, after = pads[2 * axis : 2 * axis + 2]
        if max(before, after) >= reach[axis]:
            raise DataError(
                f"padding of {max(before, after)} leaves windows of {reach[axis]} empty"
            )
        room = x.shape[axis] + before + after - reach[axis]
        if room < 0:
            raise DataError(f"a window of {reach[axis]} does not fit {list(x.shape)}")
        found.append(room // strides[axis] + 1)
    return found[0], found[1]


def _float_only(*values: Value) -> None:
    if any(value.span is not None for value in values):
        raise DataError("it takes floats, found integers")


def _for_channels(array: Any, x: Value) -> None:
    if array is not None and array.ndim and array.shape[-1] != x.shape[-1]:
        raise DataError(
            f"it has numbers for {array.shape[-1]} channels, and {x.shape[-1]} come in"
        )


def _signs_only(direction: Any) -> None:
    if direction is not None and not np.isin(direction, (-1, 1)).all():
        raise DataError("a direction is 1 or -1")


@attrs.frozen(eq=False)
class Conv2D(Operation):
    """Sums of products of windows; depthwise where there are as many groups as channels.

    The kernel is (output channels, height, width, input channels of a group).
    """

    name: ClassVar[str] = "conv2d"
    kernel: Any = attrs.field(metadata=of(Weights(4)))
    strides: tuple[int, int] = attrs.field(default=(1, 1), metadata=of(_SIZES))
    dilation: tuple[int, int] = attrs.field(default=(1, 1), metadata=of(_SIZES))
    pads: tuple[int, int, int, int] = attrs.field(default=(0, 0, 0, 0), metadata=of(_PADS))
    pad: float = attrs.field(default=0.0, metadata=of(Number()))
    groups: int = attrs.field(default=1, metadata=of(Integers(1, LARGEST)))

    @property
    def reach(self) -> tuple[int, int]:
        """The size of a window of the dilated kernel."""
        height, width = self.kernel.shape[1:3]
        return (height - 1) * self.dilation[0] + 1, (width - 1) * self.dilation[1] + 1

    def infer(self, *inputs: Value) -> Value:
        (x,) = inputs
        outputs, *window = self.kernel.shape
        places = _windows(x, self.reach, self.strides, self.pads)
        if window[2] * self.groups != x.shape[2] or outputs % self.groups:
            raise DataError(
                f"a kernel of shape {list(self.kernel.shape)} in {self.groups} groups does "
                f"not fit {x.shape[2]} channels"
            )
        pad = self.pad if any(self.pads) else 0
        span = _product(self.kernel, x, math.prod(window), pad)
        return Value((*places, outputs), span)


@attrs.frozen(eq=False)
class Dense(Operation):
    """Products with a matrix (outputs, inputs), along the last axis."""

    name: ClassVar[str] = "dense"
    kernel: Any = attrs.field(metadata=of(Weights(2)))

    def infer(self, *inputs: Value) -> Value:
        (x,) = inputs
        outputs, size = self.kernel.shape
        if not x.shape or x.shape[-1] != size:
            raise DataError(f"it takes {size} numbers, found the shape {list(x.shape)}")
        return Value((*x.shape[:-1], outputs), _product(self.kernel, x, size))


@attrs.frozen(eq=False)
class Affine(Operation):
    """``x * scale + shift`` in float32, one number each or one for each channel."""

    name: ClassVar[str] = "affine"
    scale: Any = attrs.field(default=None, metadata=of(Array(range(2), optional=True)))
    shift: Any = attrs.field(default=None, metadata=of(Array(range(2), optional=True)))

    def infer(self, *inputs: Value) -> Value:
        (x,) = inputs
        for array in (self.scale, self.shift):
            _for_channels(array, x)
        return Value(x.shape)


@attrs.frozen(eq=False)
class Quantize(Operation):
    """``low + step * n``, where n thresholds are at most ``x * direction``.

    They ascend, and are (n,), or (n, channels) for a list for each channel; floats where x
    is float. Nothing reaches a threshold of infinity, and all one of -infinity.
    """

    name: ClassVar[str] = "quantize"
    thresholds: Any = attrs.field(metadata=of(Array(range(1, 3), "fi", finite=False)))
    direction: Any = attrs.field(default=None, metadata=of(_DIRECTION))
    low: int = attrs.field(default=-1, metadata=of(Integers(-LARGEST, LARGEST)))
    step: int = attrs.field(default=2, metadata=of(Integers(1, LARGEST)))

    def infer(self, *inputs: Value) -> Value:
        (x,) = inputs
        floats = self.thresholds.dtype.kind == "f"
        if floats is not (x.span is None):
            raise DataError("its thresholds are floats and its input is not, or vice versa")
        if self.thresholds.ndim == 2:
            _for_channels(self.thresholds, x)
        _for_channels(self.direction, x)
        _signs_only(self.direction)
        if (self.thresholds[1:] < self.thresholds[:-1]).any():
            raise DataError("its thresholds do not ascend")
        count = len(self.thresholds)
        return Value(x.shape, Span(self.low, self.low + self.step * count, self.step))


@attrs.frozen(eq=False)
class _Pool(Operation):
    pool: tuple[int, int] = attrs.field(default=(2, 2), metadata=of(_SIZES))
    strides: tuple[int, int] = attrs.field(default=(2, 2), metadata=of(_SIZES))
    pads: tuple[int, int, int, int] = attrs.field(default=(0, 0, 0, 0), metadata=of(_PADS))

    def infer(self, *inputs: Value) -> Value:
        (x,) = inputs
        return Value((*_windows(x, self.pool, self.strides, self.pads), x.shape[2]), x.span)


@attrs.frozen(eq=False)
class MaxPool(_Pool):
    """The largest of a window, the smallest where `direction` is -1: OR and AND of bits."""

    name: ClassVar[str] = "max_pool"
    direction: Any = attrs.field(default=None, metadata=of(_DIRECTION))

    def infer(self, *inputs: Value) -> Value:
        _for_channels(self.direction, inputs[0])
        _signs_only(self.direction)
        return super().infer(*inputs)


@attrs.frozen(eq=False)
class AveragePool(_Pool):
    """The mean of a window, without what was padded."""

    name: ClassVar[str] = "average_pool"

    def infer(self, *inputs: Value) -> Value:
        _float_only(*inputs)
        return super().infer(*inputs)


@attrs.frozen(eq=False)
class GlobalPool(Operation):
    """The largest number or the mean of each channel."""

    name: ClassVar[str] = "global_pool"
    function: str = attrs.field(metadata=of(Choice(("max", "average"))))

    def infer(self, *inputs: Value) -> Value:
        (x,) = inputs
        if self.function == "average":
            _float_only(x)
        if len(x.shape) < 2:
            raise DataError(f"an image has 3 axes, found the shape {list(x.shape)}")
        return Value(x.shape[-1:], x.span)


FUNCTIONS = (
    *("elu", "exponential", "hard_sigmoid", "hard_tanh", "leaky_tanh", "relu", "sigmoid"),
    *("silu", "softmax", "softplus", "softsign", "tanh"),
)


@attrs.frozen(eq=False)
class Activation(Operation):
    """A function of each number, or of each row where it is softmax.

    `alpha` is the slope of relu below `threshold`, that of leaky_tanh beyond 1, and the
    factor of elu.
    """

    name: ClassVar[str] = "activation"
    function: str = attrs.field(metadata=of(Choice(FUNCTIONS)))
    alpha: float = attrs.field(default=0.0, metadata=of(Number()))
    most: float | None = attrs.field(default=None, metadata=of(Number(optional=True)))
    threshold: float = attrs.field(default=0.0, metadata=of(Number()))

    def infer(self, *inputs: Value) -> Value:
        _float_only(*inputs)
        return inputs[0]


@attrs.frozen(eq=False)
class PReLU(Operation):
    """``x`` where it is above 0, else ``alpha * x``."""

    name: ClassVar[str] = "prelu"
    alpha: Any = attrs.field(metadata=of(Array(range(1, 8))))

    def infer(self, *inputs: Value) -> Value:
        _float_only(*inputs)
        _broadcast(inputs[0].shape, self.alpha.shape, into=inputs[0].shape)
        return inputs[0]


def _broadcast(*shapes: tuple[int, ...], into: Any = None) -> tuple[int, ...]:
    try:
        if len({len(shape) for shape in shapes}) > 1:
            raise ValueError("the ranks differ")
        found = np.broadcast_shapes(*shapes)
    except ValueError as error:
        raise DataError(f"shapes {[list(s) for s in shapes]} do not match") from error
    if into is not None and found != into:
        raise DataError(f"shapes {[list(s) for s in shapes]} do not match")
    return tuple(found)


@attrs.frozen(eq=False)
class Merge(Operation):
    """Several tensors, number by number."""

    name: ClassVar[str] = "merge"
    arity: ClassVar[int | None] = None
    function: str = attrs.field(
        metadata=of(
            Choice(("add", "subtract", "multiply", "maximum", "minimum", "average"))
        )
    )

    def infer(self, *inputs: Value) -> Value:
        _float_only(*inputs)
        if self.function == "subtract" and len(inputs) != 2:
            raise DataError(f"it subtracts one tensor from another, found {len(inputs)}")
        return Value(_broadcast(*(x.shape for x in inputs)))


@attrs.frozen(eq=False)
class Concatenate(Operation):
    """Several tensors of one kind, side by side along an axis that is not the batch."""

    name: ClassVar[str] = "concatenate"
    arity: ClassVar[int | None] = None
    axis: int = attrs.field(metadata=of(Integers(1, 8)))

    def infer(self, *inputs: Value) -> Value:
        first, at = inputs[0], self.axis - 1
        rest = {(*x.shape[:at], *x.shape[at + 1 :]) for x in inputs}
        ranks = {len(x.shape) for x in inputs}
        if len(rest) > 1 or len(ranks) > 1 or at >= len(first.shape):
            raise DataError(f"shapes {[list(x.shape) for x in inputs]} do not match")
        if any(x.span != first.span for x in inputs):
            raise DataError("its inputs hold different kinds of numbers")
        size = sum(x.shape[at] for x in inputs)
        return Value((*first.shape[:at], size, *first.shape[at + 1 :]), first.span)


@attrs.frozen(eq=False)
class Reshape(Operation):
    """The same numbers in another shape."""

    name: ClassVar[str] = "reshape"
    shape: tuple[int, ...] = attrs.field(metadata=of(Integers(1, LARGEST, range(1, 8))))

    def infer(self, *inputs: Value) -> Value:
        (x,) = inputs
        if math.prod(self.shape) != math.prod(x.shape):
            raise DataError(f"{list(x.shape)} has no place in {list(self.shape)}")
        return Value(self.shape, x.span)


@attrs.frozen(eq=False)
class Pad(Operation):
    """Zeros around an image."""

    name: ClassVar[str] = "pad"
    pads: tuple[int, int, int, int] = attrs.field(metadata=of(_PADS))

    def infer(self, *inputs: Value) -> Value:
        (x,) = inputs
        _float_only(x)
        if len(x.shape) != 3:
            raise DataError(f"an image has 3 axes, found the shape {list(x.shape)}")
        top, bottom, left, right = self.pads
        return Value((x.shape[0] + top + bottom, x.shape[1] + left + right, x.shape[2]))


OPERATIONS: Mapping[str, type[Operation]] = {
    cls.name: cls
    for cls in (
        *(Conv2D, Dense, Affine, Quantize, MaxPool, AveragePool, GlobalPool),
        *(Activation, PReLU, Merge, Concatenate, Reshape, Pad),
    )
}
