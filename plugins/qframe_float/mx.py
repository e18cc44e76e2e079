"""The OCP microscaling formats: blocks of low-bit numbers with a shared power of two."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
from keras import ops

from qframe.errors import ArgumentError
from qframe.quantizers import Groups, Traits, axes_within_channels
from qframe.quantizers.arithmetic import wide
from qframe.quantizers.integers import EXPONENT_BITS
from qframe.validation import integer_within, one_of
from qframe_float.formats import Format
from qframe_float.scaled import FloatQuantizer, magnitudes, power_of

# The range of the 8-bit exponent of a scale, E8M0.
_LOWEST, _HIGHEST = 2.0**-127, 2.0**127


class MX(FloatQuantizer):
    """Base of the quantizers of blocks."""

    bits_of_each_scale = EXPONENT_BITS

    def __init__(
        self, block_size: int = 32, axis: int | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        owner = type(self).__name__
        self.block_size = integer_within(owner, "block_size", block_size, 1, 2**16)
        if axis is not None:
            axis = integer_within(owner, "axis", axis, -32, 31)
        self.axis = axis

    @property
    def traits(self) -> Traits:
        levels = self.format.signed_multiples
        return Traits(
            levels=levels,
            range=(levels[0], levels[-1]),
            idempotent=True,
            odd=True,
            scaled=True,
            channelwise=self.axis is None,
            reference=self.reference,
            surrogate=self.surrogate,
        )

    def groups_of(self, shape: Any, channel_axis: Any = -1) -> Groups:
        return Groups(self._axes(len(shape), channel_axis), self.block_size)

    def gradient(self, inputs: Any, channel_axis: Any = -1) -> Any:
        return ops.ones_like(inputs)

    def scales(self, inputs: Any, channel_axis: Any = -1) -> Any:
        def scales(largest: Any) -> Any:
            power = power_of(largest) * 2.0**-self.format.largest_exponent
            return self._clipped(ops.clip(power, _LOWEST, _HIGHEST), inputs.dtype)

        groups = self.groups_of(inputs.shape, channel_axis)
        return _of_blocks(magnitudes(wide(inputs)), groups, scales)

    def reference_scales(self, x: Any, axis: Any = None) -> Any:
        along = self._axes(x.ndim, axis)
        order = [*(i for i in range(x.ndim) if i not in along), *along]
        size = math.prod(x.shape[i] for i in along)
        ordered = np.abs(np.nan_to_num(x)).transpose(order)
        rows = ordered.reshape(x.size // size, size)
        for start in range(0, size, self.block_size):
            block = rows[:, start : start + self.block_size]
            exponent = np.frexp(block.max(axis=1, keepdims=True))[1] - 1
            block[:] = np.ldexp(x.dtype.type(1), exponent - self.format.largest_exponent)
        low, high = self._limits(np.finfo(x.dtype), x.dtype.name)
        rows = rows.clip(max(low, _LOWEST), min(high, _HIGHEST))
        return rows.reshape(ordered.shape).transpose(np.argsort(order))

    def surrogate(self, x: Any, axis: Any = None) -> Any:
        """The NumPy reference of `gradient`."""
        return np.ones_like(x)

    def _axes(self, rank: int, channel_axis: Any) -> tuple[int, ...]:
        """The axes along which the blocks run."""
        if self.axis is None:
            within = axes_within_channels(rank, channel_axis)
            all_axes = tuple(range(rank))
            if self.batched:
                # The next layer sums over the channels of activations.
                return tuple(axis for axis in all_axes if axis not in within)
            return within or all_axes
        if rank and not -rank <= self.axis < rank:
            raise ArgumentError(
                f"axis={self.axis} of {type(self).__name__} names an axis that a tensor of "
                f"{rank} axes lacks; give one from {-rank} to {rank - 1}, or None for the "
                "one along which a layer sums."
            )
        return (self.axis % rank,) if rank else ()


class MXFP8(MX):
    r"""Blocks of FP8 with a shared power of two: MXFP8 of the OCP microscaling formats.

    .. math:: q(x) = s \, \mathrm{fp8}(x / s), \quad
        s = 2^{\lfloor \log_2 \max_{\text{block}} |x| \rfloor - e}

    .. math:: \frac{dq}{dx} = 1

    h is the largest number of the element format and e its exponent: 448 and 8, or 57344
    and 15. Elements round to the nearest, ties to even, and saturate: numbers beyond h s,
    which have the largest exponent of their block, become h s, as the standard says. They
    still have a gradient: since the scale follows the block, q(x) is at least 3/4 of x, and
    without a gradient the largest weight of a block could never shrink. No gradient flows
    through s.

    Blocks run along the axes that a layer sums over. The numbers of an output channel of a
    kernel are taken in order: those of a convolution row by row, pixel by pixel, with the
    input channels together. A bias or another tensor without a second axis is one sequence.
    In the slot of an input or output, blocks run along the channels of one position of one
    example. The last block is shorter if the size does not divide the number. Outside of a
    slot a tensor counts as a kernel whose last axis is that of the output channels: write
    ``axis=-1`` for activations.

    A block of zeros gives zeros. NaN stays NaN and does not affect the scale; an infinity
    counts as the largest finite number. Subnormal inputs count as 0. A scale is clipped to
    the range of E8M0, and so that no value is subnormal or infinite in the dtype of the
    input: blocks below about 1e-28 become coarser, then zeros.

    Args:
        element: ``"e4m3"`` or ``"e5m2"``. Default ``"e4m3"``.
        block_size: the numbers in a block, an integer from 1 to 65536. Default 32.
        axis: the axis along which the blocks run, for every tensor; None for the axes that
            a layer sums over. A scalar is a block. Default None.

    Raises:
        ArgumentError: an argument has another value, or a tensor lacks the axis.

    Example:
        >>> import qframe as qf
        >>> q = qf.quantizers.MXFP8(axis=-1)
        >>> [float(v) for v in q([1000.0, 33.0, 1.01])]
        [896.0, 32.0, 1.0]

    Paper: Rouhani et al., 2023, https://arxiv.org/abs/2310.10537
    """

    precision = 8
    formats: ClassVar = {"e4m3": Format(4, 3, "nan"), "e5m2": Format(5, 2, "ieee")}

    def __init__(
        self,
        element: str = "e4m3",
        block_size: int = 32,
        axis: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(block_size, axis, **kwargs)
        self.element = one_of("MXFP8", "element", element, self.formats)
        self.format = self.formats[self.element]


class MXFP6(MX):
    """Blocks of FP6 with a shared power of two: MXFP6 of the OCP microscaling formats.

    Formula, gradient, blocks and errors are those of `MXFP8`, with the largest number 7.5
    and its exponent 2, or 28 and 4.

    Args:
        element: ``"e2m3"`` or ``"e3m2"``. Default ``"e2m3"``.
        block_size: as of `MXFP8`. Default 32.
        axis: as of `MXFP8`. Default None.

    Example:
        >>> import qframe as qf
        >>> q = qf.quantizers.MXFP6(axis=-1)
        >>> [float(v) for v in q([4.0, 3.3, 0.3])]
        [4.0, 3.25, 0.25]

    Paper: Rouhani et al., 2023, https://arxiv.org/abs/2310.10537
    """

    precision = 6
    formats: ClassVar = {"e2m3": Format(2, 3), "e3m2": Format(3, 2)}

    def __init__(
        self,
        element: str = "e2m3",
        block_size: int = 32,
        axis: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(block_size, axis, **kwargs)
        self.element = one_of("MXFP6", "element", element, self.formats)
        self.format = self.formats[self.element]


class MXFP4(MX):
    """Blocks of FP4 with a shared power of two: MXFP4 of the OCP microscaling formats.

    Formula, gradient, blocks and errors are those of `MXFP8`, with the largest number 6
    and its exponent 2.

    Args:
        block_size: as of `MXFP8`. Default 32.
        axis: as of `MXFP8`. Default None.

    Example:
        >>> import qframe as qf
        >>> q = qf.quantizers.MXFP4(axis=-1)
        >>> [float(v) for v in q([0.5, 0.33, -0.9])]
        [0.5, 0.375, -0.75]

    Paper: Rouhani et al., 2023, https://arxiv.org/abs/2310.10537
    """

    precision = 4
    format = Format(2, 1)


class MXINT8(MX):
    """Blocks of integers with a shared power of two: MXINT8 of the OCP formats.

    Formula, gradient, blocks and errors are those of `MXFP8`. The elements are the
    multiples of 1/64 from -127/64 to 127/64, and the exponent of the largest is 0. The
    pattern of -2, which the standard makes optional, is not used.

    Args:
        block_size: as of `MXFP8`. Default 32.
        axis: as of `MXFP8`. Default None.

    Example:
        >>> import qframe as qf
        >>> q = qf.quantizers.MXINT8(axis=-1)
        >>> [float(v) for v in q([0.5, 0.33, -0.999])]
        [0.5, 0.328125, -0.9921875]

    Paper: Rouhani et al., 2023, https://arxiv.org/abs/2310.10537
    """

    precision = 8
    # With one exponent bit the grid is uniform.
    format = Format(1, 6, bias=1)

    def codes(self, inputs: Any, channel_axis: Any = -1) -> tuple[Any, Any]:
        """The elements in two's complement as uint8, and their scales."""
        integers = self.integers(inputs, channel_axis)
        scales = integers.spread()[0] / np.float32(self.format.unit)
        return integers.values.astype(np.int8).view(np.uint8), scales


def _of_blocks(x: Any, groups: Groups, function: Callable[[Any], Any]) -> Any:
    """Apply a function to the largest number of each block, and repeat it along the block.

    Args:
        x: a tensor, not negative.
        groups: the blocks.
        function: of a tensor, elementwise.
    """
    if 0 in tuple(x.shape):
        return ops.ones_like(x)
    rank, shape = len(x.shape), ops.shape(x)
    order, size = groups.order(rank), groups.size
    count = math.prod(shape[axis] for axis in groups.axes)
    if isinstance(count, int):
        size = min(size, count)
    blocks = -(-count // size)
    rows = ops.reshape(ops.transpose(x, order), (-1, count))
    padded = ops.pad(rows, ((0, 0), (0, blocks * size - count)))
    largest = ops.max(ops.reshape(padded, (-1, blocks, size)), axis=-1, keepdims=True)
    repeated = ops.tile(function(largest), (1, 1, size))
    unpadded = ops.reshape(repeated, (-1, blocks * size))[:, :count]
    ordered = ops.reshape(unpadded, [shape[axis] for axis in order])
    return ops.transpose(ordered, [order.index(axis) for axis in range(rank)])
