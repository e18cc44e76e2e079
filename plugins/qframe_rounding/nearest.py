"""Rounding to the nearest level."""

from __future__ import annotations

from typing import Any, ClassVar

import attrs

from qframe.passes.rounding.rounders import Rounding


@attrs.frozen
class Nearest:
    r"""Each weight goes to the nearest level.

    .. math:: k = \left\lfloor \frac{w - l}{s} \right\rceil

    Example:
        >>> import numpy as np
        >>> from qframe.passes.rounding.rounders import Rounding
        >>> from qframe_rounding.nearest import Nearest
        >>> weights = np.array([[[0.2], [1.6]]])
        >>> lowest, step = np.full_like(weights, -1.0), np.ones_like(weights)
        >>> Nearest()(Rounding(weights, np.eye(2)[None], lowest, step, 3)).ravel().tolist()
        [1.0, 2.0]
    """

    # The nearest level of a weight has nothing to do with the errors of the inputs.
    compensates: ClassVar[bool] = False

    def __call__(self, rounding: Rounding) -> Any:
        return rounding.nearest()
