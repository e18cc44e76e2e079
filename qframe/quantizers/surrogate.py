"""A forward function with the gradient of another one."""

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
        gradient: x -> dy/dx as it shall be taken, elementwise, of the same shape and
            dtype. The upstream gradient is multiplied by it.

    Example:
        >>> from keras import ops
        >>> from qframe.quantizers import straight_through
        >>> round_through = straight_through(ops.round, ops.ones_like)
        >>> float(round_through(ops.convert_to_tensor(0.7)))
        1.0

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
