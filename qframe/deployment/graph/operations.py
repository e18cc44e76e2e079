"""The operations of a graph: their fields, and the shapes and grids of their results.

A new one needs a class here, a function in `reference`, a function in
`qframe.deployment.lowering`, and a line in the table of each target.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import attrs
import numpy as np

from qframe.deployment.graph.fields import (
    ArrayField,
    ChoiceField,
    IntegerField,
    KernelField,
    NumberField,
    is_whole,
    of,
)
from qframe.deployment.graph.kernels import is_integer
from qframe.deployment.graph.values import LARGEST, Grid, Value, same_numbers
from qframe.errors import DataError

_MOST = 2**16
_SIZES = IntegerField(1, _MOST, 2)
# Top, bottom, left, right.
_PADS = IntegerField(0, _MOST, 4)
_DIRECTION = ArrayField(range(1, 2), "i", optional=True)


@attrs.frozen(eq=False)
class Operation:
    """An operation on tensors, with its weights and settings."""

    name: ClassVar[str]
    # The number of inputs; None for two or more.
    arity: ClassVar[int | None] = 1

    def infer(self, *inputs: Value) -> Value:
        """The shape and grid of the result; raises `DataError` for unfit inputs."""
        raise NotImplementedError

    @property
    def weight_bits(self) -> int | None:
        """The bits of a weight; None without a kernel."""
        kernel = getattr(self, "kernel", None)
        if kernel is None:
            return None
        return kernel.span.bits if is_integer(kernel) else 8 * int(kernel.dtype.itemsize)


def _sums(kernel: Any, x: Value, count: int, pad: float = 0) -> Grid | None:
    """The grid of sums of products; None if they are floats."""
    if x.grid is None or not is_integer(kernel):
        return None
    if not is_whole(pad):
        raise DataError(f"integers are padded with integers, found {pad}")
    return x.grid.products(kernel, count, int(pad))


def _windows(
    x: Value, reach: tuple[int, ...], strides: tuple[int, ...], pads: tuple[int, ...]
) -> tuple[int, int]:
    """The number of positions of a window in each direction."""
    if len(x.shape) != 3:
        raise DataError(f"an image has 3 axes, found the shape {list(x.shape)}")
    counts = []
    for axis in (0, 1):
        before, after = pads[2 * axis : 2 * axis + 2]
        if max(before, after) >= reach[axis]:
            raise DataError(
                f"padding of {max(before, after)} leaves windows of {reach[axis]} empty"
            )
        last = x.shape[axis] + before + after - reach[axis]
        if last < 0:
            raise DataError(f"a window of {reach[axis]} does not fit {list(x.shape)}")
        counts.append(last // strides[axis] + 1)
    return counts[0], counts[1]


def _float_only(*values: Value) -> None:
    if any(value.grid is not None for value in values):
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
    """A convolution; depthwise with as many groups as channels.

    The kernel is (output channels, height, width, input channels of a group). `pad` is the
    number outside of the image, in steps of the grid if input and kernel are integers.
    """

    name: ClassVar[str] = "conv2d"
    kernel: Any = attrs.field(metadata=of(KernelField(4)))
    strides: tuple[int, int] = attrs.field(default=(1, 1), metadata=of(_SIZES))
    dilation: tuple[int, int] = attrs.field(default=(1, 1), metadata=of(_SIZES))
    pads: tuple[int, int, int, int] = attrs.field(default=(0, 0, 0, 0), metadata=of(_PADS))
    pad: float = attrs.field(default=0.0, metadata=of(NumberField()))
    groups: int = attrs.field(default=1, metadata=of(IntegerField(1, LARGEST)))

    @property
    def reach(self) -> tuple[int, int]:
        """The size of a window of the dilated kernel."""
        height, width = self.kernel.shape[1:3]
        return (height - 1) * self.dilation[0] + 1, (width - 1) * self.dilation[1] + 1

    def infer(self, *inputs: Value) -> Value:
        (x,) = inputs
        outputs, *window = self.kernel.shape
        counts = _windows(x, self.reach, self.strides, self.pads)
        if window[2] * self.groups != x.shape[2] or outputs % self.groups:
            raise DataError(
                f"a kernel of shape {list(self.kernel.shape)} in {self.groups} groups does "
                f"not fit {x.shape[2]} channels"
            )
        pad = self.pad if any(self.pads) else 0
        return Value((*counts, outputs), _sums(self.kernel, x, math.prod(window), pad))


@attrs.frozen(eq=False)
class Dense(Operation):
    """Products with a matrix (outputs, inputs), along the last axis."""

    name: ClassVar[str] = "dense"
    kernel: Any = attrs.field(metadata=of(KernelField(2)))

    def infer(self, *inputs: Value) -> Value:
        (x,) = inputs
        outputs, size = self.kernel.shape
        if not x.shape or x.shape[-1] != size:
            raise DataError(f"it takes {size} numbers, found the shape {list(x.shape)}")
        return Value((*x.shape[:-1], outputs), _sums(self.kernel, x, size))


@attrs.frozen(eq=False)
class Affine(Operation):
    """``x * scale + shift`` in float32, one number each or one for each channel."""

    name: ClassVar[str] = "affine"
    scale: Any = attrs.field(default=None, metadata=of(ArrayField(range(2), optional=True)))
    shift: Any = attrs.field(default=None, metadata=of(ArrayField(range(2), optional=True)))

    def infer(self, *inputs: Value) -> Value:
        (x,) = inputs
        for array in (self.scale, self.shift):
            _for_channels(array, x)
        return Value(x.shape)


@attrs.frozen(eq=False)
class Quantize(Operation):
    """``low + step * n``, where n thresholds are at most ``x * direction``.

    The thresholds ascend. They are (n,), or (n, channels), and floats if x is float. No
    number reaches a threshold of infinity, and every number one of -infinity. `scale`,
    `zero_point` and `rounding` are those of the grid; `low` counts from the zero point.
    """

    name: ClassVar[str] = "quantize"
    thresholds: Any = attrs.field(metadata=of(ArrayField(range(1, 3), "fi", finite=False)))
    direction: Any = attrs.field(default=None, metadata=of(_DIRECTION))
    low: int = attrs.field(default=-1, metadata=of(IntegerField(-LARGEST, LARGEST)))
    step: int = attrs.field(default=2, metadata=of(IntegerField(1, LARGEST)))
    scale: float = 1.0
    zero_point: int = 0
    rounding: str | None = None

    @property
    def grid(self) -> Grid:
        """The grid of the result."""
        low = self.low + self.zero_point
        high = low + self.step * len(self.thresholds)
        return Grid(low, high, self.step, self.scale, self.zero_point, self.rounding)

    def infer(self, *inputs: Value) -> Value:
        (x,) = inputs
        floats = self.thresholds.dtype.kind == "f"
        if floats is not (x.grid is None):
            raise DataError("its thresholds are floats and its input is not, or vice versa")
        if self.thresholds.ndim == 2:
            _for_channels(self.thresholds, x)
        _for_channels(self.direction, x)
        _signs_only(self.direction)
        if (self.thresholds[1:] < self.thresholds[:-1]).any():
            raise DataError("its thresholds do not ascend")
        return Value(x.shape, self.grid)


@attrs.frozen(eq=False)
class Dequantize(Operation):
    """The real numbers of integers: ``x * scale``, counted from the zero point."""

    name: ClassVar[str] = "dequantize"
    scale: Any = attrs.field(default=1.0)

    def infer(self, *inputs: Value) -> Value:
        (x,) = inputs
        if x.grid is None:
            raise DataError("it takes integers, found floats")
        return Value(x.shape)


@attrs.frozen(eq=False)
class _Pool(Operation):
    pool: tuple[int, int] = attrs.field(default=(2, 2), metadata=of(_SIZES))
    strides: tuple[int, int] = attrs.field(default=(2, 2), metadata=of(_SIZES))
    pads: tuple[int, int, int, int] = attrs.field(default=(0, 0, 0, 0), metadata=of(_PADS))

    def infer(self, *inputs: Value) -> Value:
        (x,) = inputs
        return Value((*_windows(x, self.pool, self.strides, self.pads), x.shape[2]), x.grid)


@attrs.frozen(eq=False)
class MaxPool(_Pool):
    """The largest of a window, the smallest if `direction` is -1: OR and AND of bits."""

    name: ClassVar[str] = "max_pool"
    direction: Any = attrs.field(default=None, metadata=of(_DIRECTION))

    def infer(self, *inputs: Value) -> Value:
        _for_channels(self.direction, inputs[0])
        _signs_only(self.direction)
        return super().infer(*inputs)


@attrs.frozen(eq=False)
class AveragePool(_Pool):
    """The mean of a window, without its padding."""

    name: ClassVar[str] = "average_pool"

    def infer(self, *inputs: Value) -> Value:
        _float_only(*inputs)
        return super().infer(*inputs)


@attrs.frozen(eq=False)
class GlobalPool(Operation):
    """The largest number or the mean of each channel."""

    name: ClassVar[str] = "global_pool"
    function: str = attrs.field(metadata=of(ChoiceField(("max", "average"))))

    def infer(self, *inputs: Value) -> Value:
        (x,) = inputs
        if self.function == "average":
            _float_only(x)
        if len(x.shape) < 2:
            raise DataError(f"an image has 3 axes, found the shape {list(x.shape)}")
        return Value(x.shape[-1:], x.grid)


FUNCTIONS = (
    *("elu", "exponential", "hard_sigmoid", "hard_tanh", "leaky_tanh", "relu", "sigmoid"),
    *("silu", "softmax", "softplus", "softsign", "tanh"),
)


@attrs.frozen(eq=False)
class Activation(Operation):
    """A function of each number, or of each row if it is softmax.

    `alpha` is the slope of relu below `threshold`, that of leaky_tanh beyond 1, and the
    factor of elu.
    """

    name: ClassVar[str] = "activation"
    function: str = attrs.field(metadata=of(ChoiceField(FUNCTIONS)))
    alpha: float = attrs.field(default=0.0, metadata=of(NumberField()))
    most: float | None = attrs.field(default=None, metadata=of(NumberField(optional=True)))
    threshold: float = attrs.field(default=0.0, metadata=of(NumberField()))

    def infer(self, *inputs: Value) -> Value:
        _float_only(*inputs)
        return inputs[0]


@attrs.frozen(eq=False)
class PReLU(Operation):
    """``x`` if it is above 0, else ``alpha * x``."""

    name: ClassVar[str] = "prelu"
    alpha: Any = attrs.field(metadata=of(ArrayField(range(1, 8))))

    def infer(self, *inputs: Value) -> Value:
        _float_only(*inputs)
        _broadcast(inputs[0].shape, self.alpha.shape, into=inputs[0].shape)
        return inputs[0]


def _broadcast(*shapes: tuple[int, ...], into: Any = None) -> tuple[int, ...]:
    try:
        common = np.broadcast_shapes(*shapes)
        if len({len(shape) for shape in shapes}) > 1 or common != (into or common):
            raise ValueError("the ranks or the sizes differ")
    except ValueError as error:
        raise DataError(f"shapes {[list(s) for s in shapes]} do not match") from error
    return tuple(common)


@attrs.frozen(eq=False)
class Merge(Operation):
    """Several tensors, number by number."""

    name: ClassVar[str] = "merge"
    arity: ClassVar[int | None] = None
    function: str = attrs.field(
        metadata=of(
            ChoiceField(("add", "subtract", "multiply", "maximum", "minimum", "average"))
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
    axis: int = attrs.field(metadata=of(IntegerField(1, 8)))

    def infer(self, *inputs: Value) -> Value:
        first, at = inputs[0], self.axis - 1
        others = {(*x.shape[:at], *x.shape[at + 1 :]) for x in inputs}
        ranks = {len(x.shape) for x in inputs}
        if len(others) > 1 or len(ranks) > 1 or at >= len(first.shape):
            raise DataError(f"shapes {[list(x.shape) for x in inputs]} do not match")
        if any(not same_numbers(x, first) for x in inputs):
            raise DataError("its inputs hold different kinds of numbers")
        size = sum(x.shape[at] for x in inputs)
        return Value((*first.shape[:at], size, *first.shape[at + 1 :]), first.grid)


@attrs.frozen(eq=False)
class Reshape(Operation):
    """The same numbers in another shape."""

    name: ClassVar[str] = "reshape"
    shape: tuple[int, ...] = attrs.field(metadata=of(IntegerField(1, LARGEST, range(1, 8))))

    def infer(self, *inputs: Value) -> Value:
        (x,) = inputs
        if math.prod(self.shape) != math.prod(x.shape):
            raise DataError(f"{list(x.shape)} does not fit {list(self.shape)}")
        return Value(self.shape, x.grid)


@attrs.frozen(eq=False)
class Pad(Operation):
    """Zeros around an image."""

    name: ClassVar[str] = "pad"
    pads: tuple[int, int, int, int] = attrs.field(metadata=of(_PADS))

    def infer(self, *inputs: Value) -> Value:
        (x,) = inputs
        if len(x.shape) != 3:
            raise DataError(f"an image has 3 axes, found the shape {list(x.shape)}")
        span = x.span
        if span is not None and not (
            span.low <= 0 <= span.high and span.low % span.step == 0
        ):
            raise DataError(f"0 is not among the integers from {span.low} to {span.high}")
        top, bottom, left, right = self.pads
        shape = x.shape[0] + top + bottom, x.shape[1] + left + right, x.shape[2]
        return Value(shape, x.grid)
