"""The kernel of depthwise convolutions."""

from __future__ import annotations

from typing import Any

import attrs
import numba
import numpy as np

from qframe.deployment.graph.operations import Conv2D
from qframe.deployment.graph.values import Value
from qframe_packed.compiled.layout import Image
from qframe_packed.compiled.memory import Buffer
from qframe_packed.compiled.parameters import REGISTERS, Address, Parameters
from qframe_packed.compiled.peaks import peak_of
from qframe_packed.compiled.reductions import sum_window
from qframe_packed.compiled.tiles import FLOATS
from qframe_packed.packing import PackedTensor


@attrs.frozen(eq=False)
class Depthwise(Parameters):
    """Products of each channel with its own weights."""

    source: Address
    image: Image
    weights: Address  # (row, column, channel)
    kernel_rows: int
    kernel_columns: int
    stride_down: int
    stride_across: int
    dilation_down: int
    dilation_across: int
    out: Address
    height: int  # of the result
    width: int

    @classmethod
    def of(
        cls, source: Buffer, image: Image, out: Buffer, operation: Conv2D, y: Value
    ) -> Depthwise:
        """The kernel for the operation that makes an image to `y`."""
        kernel = operation.kernel
        numbers = kernel.integers() if isinstance(kernel, PackedTensor) else kernel
        weights = np.ascontiguousarray(numbers[..., 0].transpose(1, 2, 0), np.float32)
        steps = *operation.strides, *operation.dilation
        (rows, columns, _), (height, width, _) = weights.shape, y.shape
        return cls(source, image, weights, rows, columns, *steps, out, height, width)

    @property
    def peak(self) -> float:
        return peak_of(FLOATS)

    @property
    def numbers(self) -> int:
        return self.height * self.width * self.image.items

    @property
    def parts(self) -> int:
        return self.height

    @property
    def cost(self) -> float:
        window = self.kernel_rows * self.kernel_columns
        return super().cost + self.numbers * window / (FLOATS.lanes * REGISTERS)

    @staticmethod
    @numba.njit
    def run(begin: int, end: int, p: Any) -> None:
        columns, pixel = p.image.columns, 4 * p.image.items
        out = p.out + begin * p.width * pixel
        for number in range(begin, end):
            row = number // p.height * p.image.rows + number % p.height * p.stride_down
            for x in range(p.width):
                sum_window(
                    p.source + (row * columns + x * p.stride_across) * pixel,
                    p.dilation_down * columns * pixel,
                    p.dilation_across * pixel,
                    p.kernel_rows,
                    p.kernel_columns,
                    p.weights,
                    p.kernel_columns * pixel,
                    pixel,
                    out,
                    p.image.items,
                )
                out += pixel
