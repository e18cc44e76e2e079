"""Kernels whose weights are integers."""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from qframe.deployment.graph.values import Span
from qframe.errors import DataError

MOST_BITS = 16


@attrs.frozen(eq=False)
class Kernel:
    """Weights that are ``scale * values``.

    Args:
        values: integers, the output channels first, counted from the zero point.
        scale: float32, one number, or one for each output channel.
    """

    values: NDArray[Any]
    scale: NDArray[Any] = attrs.field(factory=lambda: np.ones((), np.float32))
    span: Span = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        low, high = int(self.values.min()), int(self.values.max())
        distances = self.values.reshape(-1).astype(np.int64) - low
        object.__setattr__(
            self, "span", Span(low, high, int(np.gcd.reduce(distances)) or 1)
        )
        check_bits(self.span)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the weights."""
        return tuple(self.values.shape)

    def integers(self) -> NDArray[Any]:
        """The integers, in the shape of the weights."""
        return self.values


def check_bits(span: Span) -> None:
    """Raise `DataError` for weights of more bits than any target stores."""
    if span.bits > MOST_BITS:
        raise DataError(
            f"{span.count} different weights need {span.bits} bits, and {MOST_BITS} is the "
            "most"
        )


def is_integer(kernel: Any) -> bool:
    """Return whether the weights are integers: a `Kernel` or its like, and not an array."""
    return not isinstance(kernel, np.ndarray)


def multiplied(kernel: Any, scale: NDArray[Any]) -> Any:
    """A kernel times a number for each output channel, with positive scales."""
    if not is_integer(kernel):
        return (kernel * per_output(scale, kernel)).astype(kernel.dtype)
    scale = scale * kernel.scale
    sign = np.where(scale < 0, -1, 1)
    return Kernel(kernel.integers() * per_output(sign, kernel), np.abs(scale))


def per_output(array: NDArray[Any], kernel: Any) -> NDArray[Any]:
    """One number for each output channel, broadcastable to a kernel."""
    return array.reshape(-1, *(1,) * (len(kernel.shape) - 1))
