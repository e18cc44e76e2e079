"""Rounders, which choose the levels of the weights of a layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from qframe.errors import DataError, PluginError
from qframe.registry.configurable import build

Array = NDArray[np.float64]


@attrs.frozen(eq=False)
class Rounding:
    r"""The weights of a layer as matrices, their grid, and the moments of the inputs.

    A layer is G matrices of K inputs and F outputs, each for other inputs: a dense layer is
    one, a depthwise convolution one for each channel. The error of rounded weights
    :math:`W_q` in the mean squared outputs is, summed over the matrices,

    .. math:: \operatorname{tr} (W_q - W)^T H (W_q - W)

    Args:
        weights: W, of shape (G, K, F), with which the outputs are best.
        moments: H, of shape (G, K, K): the mean products of two inputs. A layer with a bias
            has those about the means, for which the bias makes up.
        lowest: the lowest level of each weight, of shape (G, K, F).
        step: the distance between two levels, of shape (G, K, F).
        levels: the number of levels.
    """

    weights: Array
    moments: Array
    lowest: Array
    step: Array
    levels: int

    def nearest(self, weights: Array | None = None) -> Array:
        """The numbers of the nearest levels, from 0, of these weights or of others."""
        weights = self.weights if weights is None else weights
        return np.clip(np.rint((weights - self.lowest) / self.step), 0, self.levels - 1)

    def values(self, levels: Array) -> Array:
        """The weights of numbers of levels."""
        return self.lowest + self.step * levels

    def error(self, levels: Array) -> float:
        """The error of numbers of levels, as above."""
        return float(self._errors(levels).sum())

    def no_worse_than_nearest(self, levels: Array) -> Array:
        """Numbers of levels, or the nearest for an output where their error is smaller."""
        nearest = self.nearest()
        better = self._errors(levels) <= self._errors(nearest)
        return np.where(better[:, None], levels, nearest)

    def _errors(self, levels: Array) -> Array:
        """The error in each output, of shape (G, F)."""
        error = self.values(levels) - self.weights
        return np.asarray(np.einsum("gkf,gkf->gf", error, self.moments @ error))

    def damped(self, part: float) -> Array:
        """The moments, with a part of their mean square added to each square.

        Inputs that are always 0, or always a multiple of another one, make the moments
        singular.
        """
        return damped(self.moments, part)[0]


def damped(moments: Array, part: float) -> tuple[Array, Array]:
    """Moments with a part of their mean square added to each square; that number too.

    Moments of inputs that are all 0 have 1 added.
    """
    size = moments.shape[-1]
    means = np.einsum("gkk->g", moments) / size
    added = np.where(means > 0, part * means, 1.0)[:, None]
    result, diagonal = moments.copy(), np.arange(size)
    result[:, diagonal, diagonal] += added
    return result, added


# Chooses the number of the level of each weight, of shape (G, K, F). One with an attribute
# `compensates` that is False takes the latent weights for W.
Rounder = Callable[[Rounding], Any]


def rounder_of(method: str, options: Mapping[str, Any]) -> Rounder:
    """The rounder of an identifier and further arguments.

    Raises:
        UnknownNameError: no plugin offers it.
        ArgumentError: it does not take an argument.
    """
    rounder: Rounder = build("rounder", method, **options)
    return rounder


def checked_levels(name: str, levels: Any, rounding: Rounding) -> Array:
    """The result of a rounder; raises `PluginError` if these are no levels."""
    levels = np.asarray(levels, np.float64)
    wanted = rounding.weights.shape
    if levels.shape != wanted:
        raise PluginError(
            f"the rounder {name!r} returned an array of the shape {levels.shape} for "
            f"weights of the shape {wanted}. Return the number of a level for each."
        )
    inside = (levels >= 0) & (levels < rounding.levels) & (levels == np.rint(levels))
    if not inside.all():
        raise PluginError(
            f"the rounder {name!r} returned {levels[~inside][0]:g}, and the numbers of "
            f"levels are integers from 0 to {rounding.levels - 1}."
        )
    return levels


def check_finite(path: str, *arrays: Array) -> None:
    """Raise `DataError` where moments hold NaN or infinity."""
    if not all(np.isfinite(array).all() for array in arrays):
        raise DataError(
            f"NaN or infinity reached {path!r}. Look for it in the data and in the "
            "weights; nothing was changed."
        )
