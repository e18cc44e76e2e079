"""Functions with the gradient of another function, the same on every backend."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from keras import ops


def straight_through(
    forward: Callable[[Any], Any], gradient: Callable[[Any], Any]
) -> Callable[[Any], Any]:
    """A function whose value is ``forward(x)`` and whose gradient is ``gradient(x)``.

    Args:
        forward: x -> y, of the same shape and dtype.
        gradient: x -> the surrogate of dy/dx, elementwise, of the same shape and dtype.
            The upstream gradient is multiplied by it.

    Example:
        >>> from keras import ops
        >>> from qframe.quantizers import straight_through
        >>> floor_through = straight_through(ops.floor, ops.ones_like)
        >>> float(floor_through(ops.convert_to_tensor(0.7)))
        0.0

    Paper: Bengio et al., 2013, https://arxiv.org/abs/1308.3432
    """

    @ops.custom_gradient
    def through(x: Any) -> Any:
        def pull_back(*arguments: Any, upstream: Any = None) -> Any:
            # TensorFlow and JAX pass the upstream gradient by position.
            if upstream is None:
                (upstream,) = arguments
            return ops.multiply(upstream, gradient(x))

        return forward(x), pull_back

    return through


def round_through(x: Any) -> Any:
    r"""The nearest integer, ties to even, with the gradient of the identity.

    .. math:: q(x) = \lfloor x \rceil, \quad \frac{dq}{dx} = 1

    Example:
        >>> from keras import ops
        >>> from qframe.quantizers import round_through
        >>> [float(v) for v in round_through(ops.convert_to_tensor([0.5, 1.5, -0.7]))]
        [0.0, 2.0, -1.0]
    """
    return straight_through(ops.round, ops.ones_like)(x)


def clip_through(x: Any, low: Any, high: Any) -> Any:
    r"""X clipped to [low, high], with the gradient of a bound beyond it.

    .. math:: q(x) = \min(\max(x, l), h), \quad
        \frac{dq}{dx} = 1 \text{ where } l \le x \le h \text{, else } 0

    The bounds learn from the inputs beyond them: :math:`dq/dh = 1` where x > h. NaN stays
    NaN, with the gradient 0. The clips of the backends differ in the gradient at a bound,
    which is 0, 1/2 or 1.

    Args:
        x: a tensor.
        low: a number, or a tensor that can be broadcast to `x`.
        high: like `low`.

    Example:
        >>> from keras import ops
        >>> from qframe.quantizers import clip_through
        >>> [float(v) for v in clip_through(ops.convert_to_tensor([-3.0, 0.5]), -1, 1)]
        [-1.0, 0.5]
    """
    low, high = (ops.cast(bound, x.dtype) for bound in (low, high))
    within = ops.where(ops.isnan(x), ops.stop_gradient(x), x)
    return ops.where(ops.less(x, low), low, ops.where(ops.greater(x, high), high, within))
