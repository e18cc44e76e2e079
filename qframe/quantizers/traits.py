"""The promises of a quantizer."""

from __future__ import annotations

import math
from collections.abc import Callable

import attrs
import numpy as np
from numpy.typing import NDArray

# Of an array, and of `channel_axis` too if the quantizer is channelwise.
Reference = Callable[..., NDArray[np.floating]]


@attrs.frozen(kw_only=True)
class Traits:
    """Promises that the summary, exporters, optimizers and the conformance kit read.

    A promise applies to inference, and for a stochastic quantizer to the means of its draws
    in training too. A reference is an independent NumPy function of an array, in its dtype
    (and of ``channel_axis`` if channelwise), that reads the state of the quantizer.

    Args:
        levels: every value that the quantizer can return, ascending, before any scale;
            None if the grid is not a short list.
        range: the smallest and the largest value returned, before any scale.
        support: the closed interval outside of which the surrogate gradient is zero, so
            that a latent weight beyond it stops learning; None without such an interval.
        elementwise: the value of a number depends on that number and the state alone.
        idempotent: quantizing twice equals quantizing once.
        monotone: a larger input never gives a smaller output.
        odd: ``q(-x) == -q(x)`` for every x but zero and ties.
        nan: the value for NaN; NaN by default, None without a promise.
        stochastic: training draws random numbers, from a `keras.random.SeedGenerator`
            created from the parameter ``seed``.
        trainable: owns variables that learn.
        updates: training writes to its other variables, such as a start or a range.
        ranged: owns the range of its input, which `Quantizer.set_range` sets.
        scaled: `levels` and `range` are to be multiplied by the scale that `affine` gives.
        channelwise: has separate scales for each output channel of each tensor, and takes
            ``channel_axis``.
        sums: has the grid of the sums of products of its layer, and takes ``step`` and
            ``shift``: a value plus the shift, plus its parameter ``offset``, is a multiple
            of the step.
        tag: only states a precision, and does not change the values.
        reference: the values.
        surrogate: the factor of the upstream gradient; None if an input has an influence
            on the gradient of another one.
        expectation: the mean over the draws of a stochastic quantizer; the input clipped
            to `range` by default.
    """

    levels: tuple[float, ...] | None = None
    range: tuple[float, float] | None = None
    support: tuple[float, float] | None = None
    elementwise: bool = False
    idempotent: bool = False
    monotone: bool = False
    odd: bool = False
    nan: float | None = math.nan
    stochastic: bool = False
    trainable: bool = False
    updates: bool = False
    ranged: bool = False
    scaled: bool = False
    channelwise: bool = False
    sums: bool = False
    tag: bool = False
    reference: Reference | None = None
    surrogate: Reference | None = None
    expectation: Reference | None = None
