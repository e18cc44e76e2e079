"""What a quantizer promises about itself."""

from __future__ import annotations

from collections.abc import Callable

import attrs
import numpy as np
from numpy.typing import NDArray

Reference = Callable[[NDArray[np.floating]], NDArray[np.floating]]


@attrs.frozen(kw_only=True)
class Traits:
    """Promises that the summary, exporters, optimizers and the conformance kit read.

    Args:
        levels: every value that the quantizer can return, ascending, before any scale;
            None where the grid is not a short list.
        range: the smallest and the largest value returned, before any scale.
        support: the closed interval outside of which the surrogate gradient is zero, so
            that a latent weight beyond it stops learning; None where there is none.
        idempotent: quantizing twice equals quantizing once.
        monotone: a larger input never gives a smaller output.
        odd: ``q(-x) == -q(x)`` for every x but zero.
        stochastic: training draws random numbers.
        trainable: owns variables that learn.
        channelwise: has one scale per output channel, and takes ``channel_axis``.
        surrogate: the surrogate gradient as a NumPy reference, where it is elementwise.
    """

    levels: tuple[float, ...] | None = None
    range: tuple[float, float] | None = None
    support: tuple[float, float] | None = None
    idempotent: bool = False
    monotone: bool = False
    odd: bool = False
    stochastic: bool = False
    trainable: bool = False
    channelwise: bool = False
    surrogate: Reference | None = None
