"""The lowering of einsums: products of two tensors, or of a tensor and weights."""

from __future__ import annotations

import itertools
import math
import string
from typing import Any

import attrs
import numpy as np

from qframe.deployment.graph.kernels import is_integer
from qframe.deployment.graph.operations import Dense, Matmul
from qframe.deployment.lowering.products import (
    add_bias,
    add_inner_activation,
    check_not_quantized_by_keras,
)
from qframe.deployment.lowering.shapes import add_reshape, add_transpose
from qframe.deployment.lowering.tracing import Traced, Tracer
from qframe.deployment.lowering.weights import Array, kernel_of, values_of
from qframe.errors import QFrameError


@attrs.frozen
class Einsum:
    """The axes of an einsum of two operands, a letter each.

    Args:
        equation: that of `keras.ops.einsum`.
        x: the axes of the first operand.
        y: those of the second.
        out: those of the result.
    """

    equation: str
    x: str
    y: str
    out: str

    @classmethod
    def of(cls, equation: str, x_rank: int, y_rank: int) -> Einsum:
        """Read an equation; the ranks count the batch.

        Raises:
            QFrameError: it is not a product of two operands.
        """
        operands, arrow, out = equation.replace(" ", "").partition("->")
        parts = operands.split(",")
        if not arrow or len(parts) != 2:
            raise QFrameError(
                f"its equation {equation!r} is not one of two operands with a result. "
                "Write it as products of two tensors, such as 'abc,adc->abd'"
            )
        unused = [letter for letter in string.ascii_letters if letter not in equation]
        counts = [
            rank - len(part.replace("...", "")) if "..." in part else 0
            for part, rank in zip(parts, (x_rank, y_rank), strict=True)
        ]
        others = "".join(unused[: max(counts)])
        x, y = (
            part.replace("...", others[len(others) - count :])
            for part, count in zip(parts, counts, strict=True)
        )
        out = out.replace("...", others)
        if any(len({*axes}) < len(axes) for axes in (x, y, out)):
            raise QFrameError(
                f"its equation {equation!r} names an axis of one tensor twice"
            )
        if not {*x} <= {*y, *out} or not {*y} <= {*x, *out}:
            raise QFrameError(
                f"its equation {equation!r} adds along an axis of one tensor alone. Sum it "
                "before"
            )
        return cls(equation, x, y, out)

    @property
    def summed(self) -> str:
        """The axes of both operands that the result does not have."""
        return "".join(axis for axis in self.x if axis in self.y and axis not in self.out)

    @property
    def common(self) -> str:
        """The axes of both operands that the result has, too."""
        return "".join(axis for axis in self.out if axis in self.x and axis in self.y)

    def check_weights(self) -> None:
        """Raise `QFrameError` unless the second operand can be weights of a dense layer."""
        if self.common or self.x[0] in self.y or self.out[:1] != self.x[0]:
            raise QFrameError(
                f"its equation {self.equation!r} takes other weights along an axis of the "
                "input, and the target the same weights along each. Write a layer for each "
                "part, or a depthwise convolution"
            )

    def only(self, axes: str) -> str:
        """The axes of one operand that the other does not have."""
        other = self.y if axes is self.x else self.x
        return "".join(axis for axis in axes if axis not in other)


def add_einsum(
    tracer: Tracer, equation: str, x: Traced, y: Traced, scale: float = 1.0
) -> Traced:
    """Add the products of two tensors as those of matrices.

    Raises:
        QFrameError: they mix samples of the batch, or are not products of matrices.
    """
    sum_of = Einsum.of(equation, len(x.shape) + 1, len(y.shape) + 1)
    batch = sum_of.x[0]
    if not batch == sum_of.y[0] == sum_of.out[:1]:
        raise QFrameError(
            f"its equation {equation!r} does not keep the batch as the first axis of both "
            "tensors and of the result"
        )
    sizes = dict(zip(sum_of.x[1:], x.shape, strict=True))
    if any(sizes.get(a, n) != n for a, n in zip(sum_of.y[1:], y.shape, strict=True)):
        raise QFrameError(f"shapes {list(x.shape)} and {list(y.shape)} do not match")
    sizes |= dict(zip(sum_of.y[1:], y.shape, strict=True))
    common, summed = sum_of.common.replace(batch, ""), sum_of.summed
    rows, columns = sum_of.only(sum_of.x), sum_of.only(sum_of.y)
    outer = (common,) if common else ()
    left = _grouped(tracer, x, sum_of.x, (*outer, rows, summed))
    right = _grouped(tracer, y, sum_of.y, (*outer, summed, columns))
    product = tracer.add(Matmul(scale=scale), tracer.real(left), tracer.real(right))
    return _arranged(tracer, product, common + rows + columns, sum_of.out[1:], sizes)


def _grouped(tracer: Tracer, x: Traced, axes: str, groups: tuple[str, ...]) -> Traced:
    """A tensor whose axes are groups of those that it has."""
    order = tuple(axes.index(axis) for axis in itertools.chain(*groups))
    shape = (math.prod(x.shape[axes.index(a) - 1] for a in group) for group in groups)
    return add_reshape(tracer, add_transpose(tracer, x, order), tuple(shape))


def _arranged(
    tracer: Tracer, x: Traced, axes: str, wanted: str, sizes: dict[str, int]
) -> Traced:
    """A tensor of these axes, in whatever shape, with the wanted ones."""
    if not axes:
        return x
    x = add_reshape(tracer, x, tuple(sizes[axis] for axis in axes))
    return add_transpose(tracer, x, tuple(axes.index(axis) + 1 for axis in wanted))


def einsum_dense(tracer: Tracer, layer: Any, inputs: list[Traced]) -> Traced:
    """Add an einsum with weights, as a dense layer."""
    (x,) = inputs
    check_not_quantized_by_keras(layer)
    rank = len(layer.kernel.shape)
    sum_of = Einsum.of(layer.equation, len(x.shape) + 1, rank)
    sum_of.check_weights()
    sizes = dict(zip(sum_of.y, layer.kernel.shape, strict=True))
    kernel: Any = kernel_of(
        layer, "kernel", lambda k: matrix_of(sum_of, k), tracer.target.floats
    )
    bias = None if layer.bias is None else _bias_of(layer, sum_of, sizes)
    y = add_weights(tracer, sum_of, x, kernel, sizes, bias)
    return add_inner_activation(tracer, layer, y)


def matrix_of(sum_of: Einsum, kernel: Array) -> Array:
    """The weights of an einsum as a matrix (outputs, inputs)."""
    outputs = sum_of.only(sum_of.y)
    order = [sum_of.y.index(axis) for axis in outputs + sum_of.summed]
    count = math.prod(kernel.shape[sum_of.y.index(axis)] for axis in outputs)
    return kernel.transpose(order).reshape(count, -1)


def add_weights(
    tracer: Tracer,
    sum_of: Einsum,
    x: Traced,
    kernel: Any,
    sizes: dict[str, int],
    bias: Array | None = None,
) -> Traced:
    """Add the products of a tensor with a matrix of weights.

    Args:
        tracer: the graph.
        sum_of: the einsum.
        x: the tensor.
        kernel: the matrix of `matrix_of`.
        sizes: those of the axes of the weights.
        bias: for each output; None for none.
    """
    rows, outputs = sum_of.only(sum_of.x)[1:], sum_of.only(sum_of.y)
    sizes = sizes | dict(zip(sum_of.x[1:], x.shape, strict=True))
    order = tuple(sum_of.x.index(axis) for axis in rows + sum_of.summed)
    y = add_transpose(tracer, x, order)
    inputs = math.prod(sizes[axis] for axis in sum_of.summed)
    y = add_reshape(tracer, y, (*(sizes[axis] for axis in rows), inputs))
    sums = tracer.add(Dense(kernel=kernel), y if is_integer(kernel) else tracer.real(y))
    y = add_bias(tracer, sums, bias)
    return _arranged(tracer, y, rows + outputs, sum_of.out[1:], sizes)


def _bias_of(layer: Any, sum_of: Einsum, sizes: dict[str, int]) -> Array:
    """The bias for each output of the matrix."""
    bias: Any = values_of(layer, "bias")
    axes, outputs = sum_of.out[len(sum_of.out) - bias.ndim :], sum_of.only(sum_of.y)
    own = [axis for axis, size in zip(axes, bias.shape, strict=True) if size > 1]
    if not {*own} <= {*outputs}:
        raise QFrameError(
            f"its bias_axes {layer.bias_axes!r} are not those of its weights, which are "
            f"{outputs!r}. Name axes of the weights, or none"
        )
    named = bias.reshape([size for size in bias.shape if size > 1])
    order = sorted(range(len(own)), key=lambda i: outputs.index(own[i]))
    shape = [sizes[axis] if axis in own else 1 for axis in outputs]
    full = [sizes[axis] for axis in outputs]
    return np.broadcast_to(named.transpose(order).reshape(shape), full).reshape(-1).copy()


def dot(tracer: Tracer, layer: Any, inputs: list[Traced]) -> Traced:
    """Add the products of two tensors along an axis of each."""
    x, y = inputs
    if layer.normalize:
        raise QFrameError(
            "its normalize=True divides by the length of each vector, which the target "
            "cannot do. Build it with normalize=False"
        )
    axes = (layer.axes,) * 2 if isinstance(layer.axes, int) else layer.axes
    first = string.ascii_lowercase[: len(x.shape) + 1]
    second = first[0] + string.ascii_uppercase[: len(y.shape)]
    summed = first[axes[0] % len(first)]
    place = axes[1] % len(second)
    second = second[:place] + summed + second[place + 1 :]
    out = (first + second[1:]).replace(summed, "")
    product = add_einsum(tracer, f"{first},{second}->{out}", x, y)
    return product if len(out) > 1 else add_reshape(tracer, product, (1,))
