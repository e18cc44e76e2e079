"""GPTQ: weights of one input after the other, each with the error of those before."""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np

from qframe.passes.rounding.rounders import Array, Rounding
from qframe.validation import finite_number

# Inputs that take the errors of those before the block together.
_BLOCK = 64


@attrs.frozen
class GPTQ:
    r"""Round the weights of one input after the other, and let the rest make up for it.

    .. math:: q_i = \operatorname{nearest}\left( w_i + \frac{1}{R_{ii}} \sum_{j < i} R_{ji}
        (w_j - q_j) \right), \quad R R^T = H + d I, \quad R \text{ upper triangular}

    These are the levels of the paper, which updates all weights by the inverse of H + d I.
    The inputs come in the order of their squares, the largest first, since the last ones
    have none behind them that could make up for their error. The damping d is a part of the
    mean square. An output for which the nearest levels have a smaller error gets those.

    Args:
        damping: that part, positive. Default 0.01.

    Raises:
        ArgumentError: `damping` is not a positive, finite number.

    Example:
        >>> import numpy as np
        >>> from qframe.passes.rounding.rounders import Rounding
        >>> from qframe_rounding.gptq import GPTQ
        >>> weights = np.array([[[0.4], [0.4]]])  # of two inputs that are nearly equal
        >>> moments = np.array([[[1.0, 0.99], [0.99, 1.0]]])
        >>> lowest, step = np.full_like(weights, -1.0), np.ones_like(weights)
        >>> GPTQ()(Rounding(weights, moments, lowest, step, 3)).ravel().tolist()
        [1.0, 2.0]

    Paper: Frantar et al., 2022, https://arxiv.org/abs/2210.17323
    """

    damping: float = attrs.field(default=0.01)

    @damping.validator
    def _check_damping(self, field: Any, value: float) -> None:
        finite_number("gptq", "damping", value)

    def __call__(self, rounding: Rounding) -> Any:
        order = np.argsort(-np.einsum("gkk->gk", rounding.moments), axis=1, kind="stable")
        moments = rounding.damped(self.damping)
        rows, columns = order[:, :, None], order[:, None, :]
        groups = np.arange(len(order))[:, None, None]
        # The Cholesky factor of the reversed matrix, reversed, is upper triangular.
        reverse = moments[groups, rows, columns][:, ::-1, ::-1]
        factor: Array = np.linalg.cholesky(reverse)[:, ::-1, ::-1].astype(np.float64)
        levels = _rounded(_ordered(rounding, rows), factor)
        result = np.empty_like(levels)
        np.put_along_axis(result, rows, levels, axis=1)
        return rounding.no_worse_than_nearest(result)


def _ordered(rounding: Rounding, rows: Any) -> Rounding:
    arrays = (rounding.weights, rounding.lowest, rounding.step)
    weights, lowest, step = (np.take_along_axis(each, rows, axis=1) for each in arrays)
    return attrs.evolve(rounding, weights=weights, lowest=lowest, step=step)


def _rounded(rounding: Rounding, factor: Array) -> Array:
    """The levels of weights in the order of the inputs."""
    weights, levels = rounding.weights, np.empty_like(rounding.weights)
    # By columns, and relative to the diagonal.
    shares = (factor / np.einsum("gkk->gk", factor)[:, None]).transpose(0, 2, 1)
    errors, size = np.zeros_like(weights), weights.shape[1]
    for start in range(0, size, _BLOCK):
        stop = min(start + _BLOCK, size)
        wanted = weights[:, start:stop] + shares[:, start:stop, :start] @ errors[:, :start]
        for i in range(start, stop):
            within = shares[:, i, None, start:i] @ errors[:, start:i]
            target = wanted[:, i - start] + within[:, 0]
            lowest, step = rounding.lowest[:, i], rounding.step[:, i]
            level = np.rint((target - lowest) / step)
            levels[:, i] = np.clip(level, 0, rounding.levels - 1)
            errors[:, i] = weights[:, i] - lowest - step * levels[:, i]
    return levels
