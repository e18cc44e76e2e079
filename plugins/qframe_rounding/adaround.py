"""AdaRound: whether each weight goes up or down is learned."""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np

from qframe.passes.rounding.rounders import Array, Rounding
from qframe.validation import finite_number, integer_within

# The rectified sigmoid reaches beyond 0 and 1 by a tenth.
_STRETCH, _BEYOND = 1.2, 0.1
# The regularization grows sharp from this exponent to that, after a part of the steps.
_FIRST, _LAST, _WARM_UP = 20.0, 2.0, 0.2


@attrs.frozen
class AdaRound:
    r"""Learn whether each weight goes to the level above or below.

    .. math:: h = \min(\max(1.2\, \sigma(v) - 0.1, 0), 1), \quad
        \min_v \operatorname{tr} E^T H E + \lambda \sum (1 - |2 h - 1|^\beta), \quad
        E = \lfloor W \rfloor + s h - W

    The exponent :math:`\beta` falls from 20 to 2, and v is learned by Adam. The first term
    is divided by its value for the nearest levels, for each weight. It uses the moments of
    the inputs instead of the inputs, and needs no backend. An output for which the nearest
    levels have a smaller error gets those.

    Args:
        steps: the steps of Adam, from 1. Default 500.
        learning_rate: of Adam, positive. Default 0.01.
        regularization: :math:`\lambda`, positive. Default 0.01.

    Raises:
        ArgumentError: an argument has another value.

    Example:
        >>> import numpy as np
        >>> from qframe.passes.rounding.rounders import Rounding
        >>> from qframe_rounding.adaround import AdaRound
        >>> weights = np.array([[[0.4], [0.3]]])  # of two inputs that are nearly equal
        >>> moments = np.array([[[1.0, 0.99], [0.99, 1.0]]])
        >>> lowest, step = np.full_like(weights, -1.0), np.ones_like(weights)
        >>> AdaRound()(Rounding(weights, moments, lowest, step, 3)).ravel().tolist()
        [2.0, 1.0]

    Paper: Nagel et al., 2020, https://arxiv.org/abs/2004.10568
    """

    steps: int = attrs.field(default=500)
    learning_rate: float = attrs.field(default=0.01)
    regularization: float = attrs.field(default=0.01)

    def __attrs_post_init__(self) -> None:
        integer_within("adaround", "steps", self.steps, 1, 2**31)
        finite_number("adaround", "learning_rate", self.learning_rate)
        finite_number("adaround", "regularization", self.regularization)

    def __call__(self, rounding: Rounding) -> Any:
        nearest = rounding.nearest()
        worst = rounding.error(nearest)
        if not worst > 0:
            return nearest
        levels = self._learned(rounding, rounding.weights.size / worst)
        return rounding.no_worse_than_nearest(levels)

    def _learned(self, rounding: Rounding, factor: float) -> Array:
        """The levels, with the error times a factor."""
        below = np.floor((rounding.weights - rounding.lowest) / rounding.step)
        below = np.clip(below, 0, max(rounding.levels - 2, 0))
        part = (rounding.weights - rounding.lowest) / rounding.step - below
        part = np.clip(part, 0.01, 0.99)
        v = -np.log(_STRETCH / (part + _BEYOND) - 1)
        first, second = np.zeros_like(v), np.zeros_like(v)
        for step in range(1, self.steps + 1):
            sigmoid = 1 / (1 + np.exp(-v))
            soft = np.clip(_STRETCH * sigmoid - _BEYOND, 0, 1)
            error = rounding.values(below + soft) - rounding.weights
            gradient = 2 * factor * (rounding.moments @ error) * rounding.step
            gradient -= self.regularization * _sharpening(soft, step / self.steps)
            gradient *= _STRETCH * sigmoid * (1 - sigmoid) * ((soft > 0) & (soft < 1))
            first = 0.9 * first + 0.1 * gradient
            second = 0.999 * second + 0.001 * gradient**2
            size = np.sqrt(second / (1 - 0.999**step)) + 1e-8
            v -= self.learning_rate * first / (1 - 0.9**step) / size
        soft = np.clip(_STRETCH / (1 + np.exp(-v)) - _BEYOND, 0, 1)
        return np.minimum(below + (soft >= 0.5), rounding.levels - 1)


def _sharpening(soft: Array, progress: float) -> Array | float:
    """The derivative of |2 h - 1|^beta by h, at a part of all steps."""
    if progress <= _WARM_UP:
        return 0.0
    done = (progress - _WARM_UP) / (1 - _WARM_UP)
    beta = _FIRST + (_LAST - _FIRST) * done
    distance = 2 * soft - 1
    size = np.abs(distance) ** (beta - 1)
    return np.asarray(2 * beta * size * np.sign(distance))
