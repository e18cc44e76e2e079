"""Products with the weights of a kernel."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import attrs
import numpy as np

from qframe.deployment.graph.fields import (
    IntegerField,
    KernelField,
    NumberField,
    is_whole,
    of,
)
from qframe.deployment.graph.kernels import is_integer
from qframe.deployment.graph.operations.base import (
    CROPS,
    PADS,
    SIZES,
    Operation,
    check_floats,
    check_image,
    window_counts,
)
from qframe.deployment.graph.values import LARGEST, Grid, Value
from qframe.errors import DataError


def _sums(kernel: Any, x: Value, count: int, pad: float = 0) -> Grid | None:
    """The grid of sums of products; None if they are floats."""
    if x.grid is None or not is_integer(kernel):
        return None
    if not is_whole(pad):
        raise DataError(f"integers are padded with integers, found {pad}")
    return x.grid.products(kernel, count, int(pad))


@attrs.frozen(eq=False)
class Conv2D(Operation):
    """A convolution; depthwise with as many groups as channels.

    The kernel is (output channels, height, width, input channels of a group). `pad` is the
    number outside of the image, in steps of the grid if input and kernel are integers.
    """

    name: ClassVar[str] = "conv2d"
    kernel: Any = attrs.field(metadata=of(KernelField(4)))
    strides: tuple[int, int] = attrs.field(default=(1, 1), metadata=of(SIZES))
    dilation: tuple[int, int] = attrs.field(default=(1, 1), metadata=of(SIZES))
    pads: tuple[int, int, int, int] = attrs.field(default=(0, 0, 0, 0), metadata=of(PADS))
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
        counts = window_counts(x, self.reach, self.strides, self.pads)
        if window[2] * self.groups != x.shape[2] or outputs % self.groups:
            raise DataError(
                f"a kernel of shape {list(self.kernel.shape)} in {self.groups} groups does "
                f"not fit {x.shape[2]} channels"
            )
        pad = self.pad if any(self.pads) else 0
        return Value((*counts, outputs), _sums(self.kernel, x, math.prod(window), pad))


@attrs.frozen(eq=False)
class Conv2DTranspose(Operation):
    """Each pixel times a kernel, its strides apart, and added where kernels overlap.

    The kernel is (output channels, height, width, input channels). Of the sums, `crops`
    rows at the top and columns on the left are left out; the result has `size` rows and
    columns from there on, and 0 where no kernel reaches.
    """

    name: ClassVar[str] = "conv2d_transpose"
    kernel: Any = attrs.field(metadata=of(KernelField(4)))
    size: tuple[int, int] = attrs.field(metadata=of(SIZES))
    strides: tuple[int, int] = attrs.field(default=(1, 1), metadata=of(SIZES))
    crops: tuple[int, int] = attrs.field(default=(0, 0), metadata=of(CROPS))

    def infer(self, *inputs: Value) -> Value:
        (x,) = inputs
        check_image(x)
        outputs, *window, channels = self.kernel.shape
        if channels != x.shape[2]:
            raise DataError(
                f"a kernel of shape {list(self.kernel.shape)} does not fit {x.shape[2]} "
                "channels"
            )
        parts = zip(x.shape[:2], window, self.strides, self.size, self.crops, strict=True)
        count = channels
        for pixels, reach, stride, size, crop in parts:
            full = (pixels - 1) * stride + reach
            if crop >= full or size + crop >= full + stride:
                raise DataError(
                    f"{pixels} pixels reach {full} others, and not {size} after {crop}"
                )
            count *= min(pixels, -(-reach // stride))
        return Value((*self.size, outputs), _sums(self.kernel, x, count))


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
class Lookup(Operation):
    """The row of a matrix (rows, numbers) for each index, which is a float."""

    name: ClassVar[str] = "lookup"
    kernel: Any = attrs.field(metadata=of(KernelField(2)))

    def infer(self, *inputs: Value) -> Value:
        (x,) = inputs
        check_floats(x)
        rows, size = self.kernel.shape
        if rows > 2**24:
            raise DataError(f"float32 has indices of 2^24 rows, found {rows}")
        grid = None
        if is_integer(self.kernel):
            span, scale = self.kernel.span, self.kernel.scale
            grid = Grid(
                span.low, span.high, span.step, scale if np.ndim(scale) else float(scale)
            )
        return Value((*x.shape, size), grid)
